"""Codes between, along and across: against what the definitions say."""

from itertools import pairwise
from statistics import NormalDist

import pytest
import torch

from lowerbound import fit, load_data, recipes
from lowerbound.core.compose import composed
from lowerbound.core.errors import DataError, UsageError
from lowerbound.explore.latents import (
    Codes,
    between,
    draw_prior,
    draw_rows,
    encode_rows,
    even,
    far_from,
    has_standard_prior,
    interpolate,
    latent_shape,
    manifold,
    most_used,
    on_space,
    prior_of,
    quantiles,
    shares,
    traversal,
)
from lowerbound.explore.write import read_codes, read_labels, write_values
from lowerbound.families import RelaxedBernoulli
from lowerbound.families.mixture import Mixture
from lowerbound.families.normal import DiagonalNormal
from lowerbound.priors import RelaxedUniform


def normal(mean, scale):
    """Return independent normals as a prior gives them."""
    return DiagonalNormal(torch.tensor(mean), torch.tensor(scale), 1)


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
    law = NormalDist(3.0, 2.0)
    below = [law.cdf(float(v)) for v in quantiles(normal([3.0], [2.0]), shares(6, 0.9))]
    assert [b - a for a, b in pairwise(below)] == pytest.approx([0.18] * 5, abs=1e-6)


# 20,000 draws: 5 standard errors of a share, and so false-fail rate 6e-7 for each
FEW = 5 * 0.5 / 20_000**0.5


def test_quantiles_of_a_mixture_are_those_of_its_marginals():
    parts = normal([[-4.0, 0.0], [4.0, 1.0]], [[0.5, 2.0], [0.5, 1.0]])
    below = shares(5, 0.9)
    found = quantiles(Mixture(parts, torch.tensor([0.75, 0.25]).log()), below)
    assert torch.equal(found, quantiles(Mixture(parts, torch.tensor([0.75, 0.25]).log()), below))
    for d, laws in enumerate([(NormalDist(-4, 0.5), NormalDist(4, 0.5)), (NormalDist(0, 2), NormalDist(1, 1))]):
        cut = [0.75 * laws[0].cdf(v) + 0.25 * laws[1].cdf(v) for v in found[:, d].tolist()]
        assert cut == pytest.approx(below.tolist(), abs=FEW)


def test_grids_of_a_prior_between_0_and_1_stay_there():
    prior = RelaxedUniform((3,), 0.5, binary=True)(None, None)
    below = shares(7)
    found = quantiles(prior, below)
    # z = sigmoid(L / t) with L logistic: P(z < v) = sigmoid(t logit(v))
    torch.testing.assert_close(
        torch.sigmoid(0.5 * torch.logit(found)), below[:, None].expand(7, 3).float(), atol=FEW, rtol=0
    )
    steps = even(prior, 5, 3.0)  # its standard deviation is 1/2: three of them would leave (0, 1)
    torch.testing.assert_close(steps, torch.linspace(0, 1, 5)[:, None].expand(5, 3), atol=1e-6, rtol=0)
    assert bool(((steps > 0) & (steps < 1)).all())


def test_a_traversal_moves_one_dimension_at_a_time():
    origin, values = torch.tensor([9.0, 8.0, 7.0, 6.0]), torch.arange(20.0).reshape(5, 4)
    codes = traversal(origin, values, (3, 1)).unflatten(0, (2, 5))
    assert (codes[0][:, :3] == origin[:3]).all()
    assert (codes[1][:, [0, 2, 3]] == origin[[0, 2, 3]]).all()
    assert torch.equal(codes[0][:, 3], values[:, 3])
    assert torch.equal(codes[1][:, 1], values[:, 1])


def test_a_linear_manifold_has_equal_steps_of_the_priors_deviation():
    prior = normal([10.0, 0.0], [2.0, 1.0])
    codes = manifold(prior.mean, even(prior, 3, 1.5), (0, 1)).unflatten(0, (3, 3))
    assert codes[0, :, 0].tolist() == [7.0, 10.0, 13.0]
    assert codes[:, 1, 1].tolist() == [1.5, 0.0, -1.5]


def test_a_manifold_runs_across_and_up():
    prior = normal([0.0] * 3, [1.0] * 3)
    codes = manifold(prior.mean, quantiles(prior, shares(4, 1 - 1 / 4)), (2, 0)).unflatten(0, (4, 4))
    assert bool((codes[:, 1:, 2] > codes[:, :-1, 2]).all())  # to the right
    assert bool((codes[1:, :, 0] < codes[:-1, :, 0]).all())  # upwards
    assert (codes[..., 1] == 0).all()
    below = [NormalDist().cdf(float(v)) for v in codes[0, :, 2]]
    assert below == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8], abs=1e-6)  # the middles of four equal parts


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: interpolate(torch.zeros(2), torch.ones(2), 1),
        lambda: shares(1),
        lambda: shares(3, 1.0),
        lambda: even(normal([0.0], [1.0]), 1, 3.0),
        lambda: traversal(torch.zeros(2), torch.zeros(3, 2), (2,)),
        lambda: traversal(torch.zeros(2), torch.zeros(3, 2), ()),
        lambda: manifold(torch.ones(2), torch.zeros(3, 2), (1, 1)),
        lambda: manifold(torch.ones(2), torch.zeros(3, 2), (0, -1)),
    ],
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        wrong()


def relaxed(spec):
    """Return a VAE whose latents lie between 0 and 1."""
    vae = recipes.vae(spec, latent_dim=3, hidden=(9,))
    return composed(vae, posterior=RelaxedBernoulli((3,)), prior=RelaxedUniform((3,), binary=True), spec=spec)


SPACES = {
    "directions": lambda spec: recipes.hyperspherical_vae(spec, latent_dim=3, hidden=(9,)),
    "a product": lambda spec: recipes.mixed_curvature_vae(spec, hidden=(9,)),
    "shares": lambda spec: recipes.gumbel_vae(spec, latent_dim=2, classes=3, hidden=(9,)),
    "one-hot": lambda spec: recipes.gmvae(spec, hidden=(9,)),
    "between 0 and 1": relaxed,
    "a book": recipes.vq_vae,
    "levels": recipes.fsq_vae,
    "signs": recipes.lfq_vae,
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("slerp", [False, True])
def test_ways_stay_in_the_space_of_the_codes(name, slerp):
    data = load_data("digits")
    model = SPACES[name](data.spec).build(0)[0]
    rows = data.test.take(2).matching(model.spec)
    mean = encode_rows(model, rows).mean
    way = between(model, mean[0], mean[1], 7, slerp=slerp)
    assert way.shape == (7, *latent_shape(model))
    torch.testing.assert_close(on_space(model, way), way)
    if name == "directions":
        torch.testing.assert_close(way.norm(dim=-1), torch.ones(7))
    elif name == "a product":
        torch.testing.assert_close(way[:, -5:].norm(dim=-1), torch.ones(7))  # the sphere of four dimensions
    elif name == "one-hot":
        assert sorted(way.unique().tolist()) == [0.0, 1.0]
    elif name == "shares":
        torch.testing.assert_close(way.sum(-1), torch.ones(7, 2))
    elif name == "between 0 and 1":
        assert 0 < float(way.min()) <= float(way.max()) < 1
    elif name == "a book":
        book = model.groups[0].posterior_family.codebook[0]
        vectors = way[:, 0].movedim(1, -1).reshape(-1, book.shape[1])
        assert float(torch.cdist(vectors, book).min(1).values.max()) < 1e-3
    if len(model.groups) == 1:  # the ends are what the model itself decodes of the rows
        made = model.reconstruct(rows.values())
        torch.testing.assert_close(model.decode(way[[0, -1]]), made, rtol=1e-4, atol=1e-5)


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
