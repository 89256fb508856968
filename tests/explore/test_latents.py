"""Codes between, along and across: against what the definitions say."""

from itertools import pairwise
from statistics import NormalDist

import pytest
import torch

from lowerbound import fit, load_data, recipes
from lowerbound.core.errors import DataError, UsageError
from lowerbound.explore.latents import (
    Codes,
    draw_prior,
    draw_rows,
    encode_rows,
    far_from,
    has_standard_prior,
    interpolate,
    latent_shape,
    manifold,
    most_used,
    prior_of,
    quantiles,
    traversal,
)
from lowerbound.explore.write import read_codes, read_labels, write_values


def test_both_ends_are_met_and_the_line_is_even():
    a, b = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 4.0, 3.0])
    line = interpolate(a, b, 5)
    torch.testing.assert_close(line, torch.stack([a + t * (b - a) for t in (0, 0.25, 0.5, 0.75, 1)]))
    arc = interpolate(a, b, 5, slerp=True)
    torch.testing.assert_close(arc[[0, -1]], torch.stack([a, b]))


def test_an_arc_turns_evenly_and_keeps_its_length():
    g = torch.Generator().manual_seed(1)
    a, b = (torch.nn.functional.normalize(torch.randn(7, generator=g), dim=0) * 3 for _ in range(2))
    arc = interpolate(a, b, 9, slerp=True)
    torch.testing.assert_close(arc.norm(dim=1), torch.full((9,), 3.0))
    turned = torch.nn.functional.cosine_similarity(arc[1:], arc[:-1])
    torch.testing.assert_close(turned, turned[:1].expand(8), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("b", [torch.tensor([2.0, 4.0]), torch.tensor([-1.0, -2.0]), torch.zeros(2)])
def test_where_there_is_no_arc_there_is_a_line(b):
    a = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(interpolate(a, b, 4, slerp=True), interpolate(a, b, 4))


def test_quantiles_cut_the_prior_into_equal_parts():
    normal = NormalDist()
    shares = [normal.cdf(float(v)) for v in quantiles(6, 0.9)]
    assert [b - a for a, b in pairwise(shares)] == pytest.approx([0.18] * 5, abs=1e-6)


def test_a_traversal_moves_one_dimension_at_a_time():
    origin, scale, mean = torch.tensor([9.0, 8.0, 7.0, 6.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(4.0)
    codes = traversal(origin, scale, mean, (3, 1), 5, 0.9).unflatten(0, (2, 5))
    assert (codes[0][:, :3] == origin[:3]).all()
    assert (codes[1][:, [0, 2, 3]] == origin[[0, 2, 3]]).all()
    assert codes[0][:, 3].tolist() == pytest.approx([3 + 4 * v for v in quantiles(5, 0.9).tolist()])
    assert float(codes[1][2, 1]) == pytest.approx(1.0)  # the middle is the prior's mean


def test_a_linear_manifold_has_equal_steps_of_the_priors_deviation():
    codes = manifold(torch.tensor([2.0, 1.0]), torch.tensor([10.0, 0.0]), (0, 1), 3, linear=1.5).unflatten(0, (3, 3))
    assert codes[0, :, 0].tolist() == [7.0, 10.0, 13.0]
    assert codes[:, 1, 1].tolist() == [1.5, 0.0, -1.5]


def test_a_manifold_runs_across_and_up():
    codes = manifold(torch.ones(3), torch.zeros(3), (2, 0), 4).unflatten(0, (4, 4))
    assert bool((codes[:, 1:, 2] > codes[:, :-1, 2]).all())  # to the right
    assert bool((codes[1:, :, 0] < codes[:-1, :, 0]).all())  # upwards
    assert (codes[..., 1] == 0).all()
    shares = [NormalDist().cdf(float(v)) for v in codes[0, :, 2]]
    assert shares == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8], abs=1e-6)  # the middles of four equal parts


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: interpolate(torch.zeros(2), torch.ones(2), 1),
        lambda: quantiles(1),
        lambda: quantiles(3, 1.0),
        lambda: traversal(torch.zeros(2), torch.ones(2), torch.zeros(2), (2,), 3),
        lambda: traversal(torch.zeros(2), torch.ones(2), torch.zeros(2), (), 3),
        lambda: manifold(torch.ones(2), torch.zeros(2), (1, 1), 3),
        lambda: manifold(torch.ones(2), torch.zeros(2), (0, -1), 3),
    ],
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        wrong()


def test_codes_of_rows_are_the_posterior_whatever_the_block():
    data = load_data("digits")
    model, _ = recipes.vae(data.spec, latent_dim=3, hidden=(5,)).build()
    rows = data.test.matching(model.spec)
    codes = encode_rows(model, rows)
    q = model.infer(rows.values())
    torch.testing.assert_close(codes.mean, q.mean.detach())
    torch.testing.assert_close(codes.scale, q.variance.sqrt().detach())
    assert most_used(Codes(codes.mean[:, [1, 0, 2]] * torch.tensor([1.0, 100.0, 10.0]), codes.scale), 2) == (1, 2)
    far = codes.mean.clone()
    far[4, 1] = 11.0
    assert (far_from(codes.mean, prior_of(model, None)), far_from(far, prior_of(model, None))) == (0, 1)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_codes_come_back_as_they_were_written(tmp_path, suffix):
    z = torch.randn(7, 3)
    path = write_values(tmp_path / f"codes{suffix}", {"z": z.numpy(), "label": torch.arange(7).numpy().astype(str)})
    torch.testing.assert_close(read_codes(path, (3,)), z)
    assert read_labels(path) == [str(i) for i in range(7)]
    with pytest.raises(DataError, match="expected"):
        read_codes(path, (4,))
    z[2, 1] = torch.nan
    with pytest.raises(DataError, match="1 codes that are not finite"):
        read_codes(write_values(path, {"z": z.numpy()}), (3,))


def test_one_draw_for_each_row_comes_from_its_posterior():
    data = load_data("digits")
    model = fit(recipes.vae(data.spec, latent_dim=3, hidden=(9,)), data, epochs=1, progress=False).model
    rows = data.test.matching(model.spec)
    first, again, other = (draw_rows(model, rows, seed=seed) for seed in (0, 0, 1))
    codes = encode_rows(model, rows)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    z = (torch.stack([draw_rows(model, rows, seed=s) for s in range(40)]) - codes.mean) / codes.scale
    assert z.shape == (40, len(rows), 3)
    # 21,480 standard normals: 5 standard errors of the mean and of the variance, false-fail rate 1.2e-6
    assert abs(float(z.mean())) < 5 / z.numel() ** 0.5
    assert abs(float(z.var()) - 1) < 5 * (2 / z.numel()) ** 0.5


def test_draws_of_the_prior_have_its_law_and_share_nothing_with_those_of_the_posterior():
    data = load_data("digits")
    given = fit(recipes.cvae(data.spec, latent_dim=3, hidden=(9,)), data, epochs=2, progress=False).model
    rows = data.test.matching(given.spec)
    y = rows.labels()
    prior, codes = prior_of(given, y), encode_rows(given, rows)
    z = (draw_prior(given, y, len(rows), seed=4) - prior.mean) / prior.variance.sqrt()
    eps = (draw_rows(given, rows, seed=4) - codes.mean) / codes.scale
    assert abs(float(z.mean())) < 5 / z.numel() ** 0.5
    assert abs(float((z * eps).mean())) < 5 / z.numel() ** 0.5  # 1 if both were made of the same noise
    assert not has_standard_prior(given, y)
    plain = recipes.vae(data.spec, latent_dim=3, hidden=(9,)).build(0)[0]
    assert has_standard_prior(plain)
    assert draw_prior(plain, None, 7).shape == (7, 3)


def test_codes_of_a_book_have_no_distance_to_their_prior():
    model = recipes.vq_vae(load_data("digits").spec).build(0)[0]
    codes = torch.full((3, *latent_shape(model)), 1e3)
    assert far_from(codes, prior_of(model, None)) == 0
