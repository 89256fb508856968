"""Quality of reconstructions: PSNR and MS-SSIM by their formulas, and what is compared with what."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, Incompatible, ShapeError, UsageError
from lowerbound.core.walk import mode
from lowerbound.data.corruptions import Blur, GaussianNoise
from lowerbound.evaluation.reconstruction import WEIGHTS, column_errors, ms_ssim, reconstruction, scales_for
from lowerbound.evaluation.restoration import corrupted, restoration


def digits_model(recipe=lb.recipes.vae, **loading):
    data = lb.load_data("digits", **loading)
    return recipe(data.spec, hidden=(7,), latent_dim=2).build(0)[0], data.test


def made_by_hand(model, seen):
    """Return the mean of p(x|z) at the mean of q(z|seen), row by row."""
    return torch.cat([model.reconstruct(row[None]) for row in seen])


def psnr(images, clean):
    error = (images.clamp(0, 1).double() - clean.double()).square().flatten(1).mean(1)
    return -10 * error.log10().numpy()


def test_drawn_pixels_are_compared_with_the_grey_ones_they_were_drawn_from():
    model, rows = digits_model()
    drawn, grey = rows.matching(model.spec).values(), rows.values()
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    each = psnr(made_by_hand(model, drawn), grey)
    found = reconstruction(model, rows)
    assert found.output.psnr.value == pytest.approx(each.mean(), rel=1e-5)
    assert found.output.psnr.se == pytest.approx(each.std(ddof=1) / np.sqrt(len(rows)), rel=1e-4)
    assert found.output.psnr.n == len(rows) == 179
    assert found.against == "the grey images that the 0/1 pixels were drawn from"
    assert (found.input, found.gain, found.better, found.corruption) == (None, None, None, None)
    assert found.output.psnr.value != pytest.approx(psnr(made_by_hand(model, drawn), drawn).mean(), rel=0.01)


def test_pixels_of_a_threshold_are_compared_with_themselves():
    model, rows = digits_model(binarize="threshold")
    cut = (rows.values() >= 0.5).float()
    found = reconstruction(model, rows)
    assert found.output.psnr.value == pytest.approx(psnr(made_by_hand(model, cut), cut).mean(), rel=1e-5)
    assert found.against == "the 0/1 images"


def test_grey_pixels_are_compared_with_themselves():
    model, rows = digits_model(lb.recipes.gaussian_vae)
    found = reconstruction(model, rows)
    wanted = psnr(made_by_hand(model, rows.values()), rows.values()).mean()
    assert found.output.psnr.value == pytest.approx(wanted, rel=1e-5)
    assert found.against == "the clean images"


def test_corrupted_images_are_what_is_seen_and_the_clean_ones_what_is_wanted():
    model, rows = digits_model(lb.recipes.gaussian_vae)
    clean = rows.values()
    blurred = Blur(0.8)(clean)
    before, after = restoration(blurred, clean), restoration(made_by_hand(model, blurred), clean)
    found = reconstruction(model, rows, corruption=Blur(0.8))
    for name in ("psnr", "ssim"):
        gain = getattr(after, name) - getattr(before, name)
        assert getattr(found.input, name).value == pytest.approx(float(getattr(before, name).mean()), rel=1e-4)
        assert getattr(found.output, name).value == pytest.approx(float(getattr(after, name).mean()), rel=1e-4)
        assert getattr(found.gain, name).value == pytest.approx(float(gain.mean()), rel=1e-4)
        # paired: the error is that of the differences, not of both means
        assert getattr(found.gain, name).se == pytest.approx(float(gain.std()) / 179**0.5, rel=1e-3)
    assert found.better == pytest.approx(float((after.psnr > before.psnr).double().mean()))
    assert found.corruption == "Blur(sigma=0.8)"
    assert "the encoder saw x corrupted by Blur(sigma=0.8)" in str(found)
    assert len({line.index(".") for line in str(found).splitlines()[:2]}) == 1


def test_a_perfect_model_of_clean_images_undoes_nothing_and_gains_nothing(monkeypatch):
    model, rows = digits_model(lb.recipes.gaussian_vae)
    monkeypatch.setattr("lowerbound.evaluation.reconstruction.denoised", lambda _, noisy: noisy.seen_values())
    found = reconstruction(model, rows, corruption=GaussianNoise(0.2))
    assert (found.gain.psnr.value, found.gain.ssim.value, found.better) == (0, 0, 0)
    noise = -20 * np.log10(0.2)  # in dB, before pixels are clipped to [0, 1]
    assert noise < found.input.psnr.value < noise + 3
    monkeypatch.setattr("lowerbound.evaluation.reconstruction.denoised", lambda _, rows: rows.values())
    same = reconstruction(model, rows)
    assert same.output.psnr.reason == "179 images are equal: their PSNR is infinite"
    assert same.output.ssim.value == pytest.approx(1, abs=1e-6)


def test_nothing_depends_on_the_mode_or_on_other_rows():
    model, rows = digits_model()
    found = reconstruction(model.train(), rows, corruption=GaussianNoise(0.3), seed=4)
    assert model.training
    assert reconstruction(model.eval(), rows, corruption=GaussianNoise(0.3), seed=4) == found
    assert reconstruction(model, rows, corruption=GaussianNoise(0.3), seed=5) != found
    # the noise of a row comes with its place: the first 100 have it whatever follows
    few, more = (rows.matching(model.spec).take(n) for n in (100, 150))
    seen = [corrupted(part, GaussianNoise(0.3), seed=4).seen for part in (few, more)]
    assert torch.equal(seen[0], seen[1][:100])


def slow_ms_ssim(a, b, scales):
    """Wang, Simoncelli & Bovik 2003, eq. 7, window by window, for one channel."""
    line = np.exp(-(((np.arange(11) - 5) / 1.5) ** 2) / 2)
    weight, product = np.outer(line, line) / line.sum() ** 2, 1.0
    shares = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    for scale in range(scales):
        contrast, whole = [], []
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                u, v = (p[top : top + 11, left : left + 11] for p in (a, b))
                mu, mv = (weight * u).sum(), (weight * v).sum()
                su, sv = (weight * (u - mu) ** 2).sum(), (weight * (v - mv) ** 2).sum()
                cs = (2 * (weight * (u - mu) * (v - mv)).sum() + 0.03**2) / (su + sv + 0.03**2)
                contrast.append(cs)
                whole.append(cs * (2 * mu * mv + 0.01**2) / (mu**2 + mv**2 + 0.01**2))
        product *= max(np.mean(whole if scale == scales - 1 else contrast), 0) ** shares[scale]
        a, b = (p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2] for p in (a, b))
        a, b = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (a, b))
    return product


@pytest.mark.parametrize(("size", "scales"), [((11, 21), 1), ((23, 26), 2), ((44, 47), 3)])
def test_ms_ssim_is_its_formula(size, scales):
    clean = torch.rand(2, 1, *size)
    images = 0.7 * clean + 0.3 * torch.rand(clean.shape)
    assert scales_for(*size) == scales
    wanted = [
        slow_ms_ssim(a[0].double().numpy(), b[0].double().numpy(), scales) for a, b in zip(images, clean, strict=True)
    ]
    np.testing.assert_allclose(ms_ssim(images, clean), wanted, rtol=1e-4)


def test_with_one_scale_it_is_ssim():
    clean = torch.rand(3, 2, 30, 33)
    images = 0.5 * clean + 0.5 * torch.rand(clean.shape)
    torch.testing.assert_close(ms_ssim(images, clean, scales=1), restoration(images, clean).ssim)
    assert not torch.allclose(ms_ssim(images, clean), restoration(images, clean).ssim, rtol=0.01)


def test_equal_images_have_1_and_opposite_ones_0():
    image = torch.rand(4, 3, 24, 24)
    torch.testing.assert_close(ms_ssim(image, image), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-5)
    assert ms_ssim(1 - image, image).tolist() == [0] * 4


def test_five_scales_agree_with_torchmetrics():
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    clean = torch.nn.functional.interpolate(torch.rand(2, 1, 30, 30), 256, mode="bilinear")
    images = (clean + 0.1 * torch.randn(clean.shape)).clamp(0, 1)
    # torchmetrics lets the window of the coarsest scale reach beyond the border
    torch.testing.assert_close(
        ms_ssim(images, clean), reference(images, clean, data_range=1.0, reduction="none").double(), rtol=0.02, atol=0
    )


def test_images_with_room_for_one_scale_have_no_ms_ssim_of_their_own():
    model, rows = digits_model()
    found = reconstruction(model, rows)
    assert (found.scales, found.window) == (1, 7)
    assert found.output.ms_ssim.value is None
    assert "have one scale: it is SSIM" in found.output.ms_ssim.reason
    assert "SSIM's window has 7 pixels" in str(found)
    large = lb.from_arrays(np.random.default_rng(0).integers(0, 256, (9, 22, 25), dtype=np.uint8), kind="image")
    made = lb.recipes.vae(large.spec, hidden=(5,), latent_dim=2).build(0)[0]
    found = reconstruction(made, large.train).to_json()
    assert found["scales"] == 2
    assert 0 <= found["output"]["ms_ssim"]["value"] < 1


def test_what_is_no_image_is_refused_by_name():
    ring = lb.load_data("ring")
    model = lb.recipes.vae(ring.spec, hidden=(5,), latent_dim=2).build(0)[0]
    with pytest.raises(Incompatible, match="ring holds points, no images"):
        reconstruction(model, ring.test)
    with pytest.raises(Incompatible, match="ring is no table"):
        column_errors(model, ring.test)
    model, rows = digits_model()
    with pytest.raises(DataError, match="has 0 test examples"):
        reconstruction(model, rows.rows(slice(0)))
    with pytest.raises(ShapeError, match=r"\(2, 1, 8, 8\) have no clean ones"):
        ms_ssim(torch.rand(2, 1, 8, 8), torch.rand(3, 1, 8, 8))
    with pytest.raises(UsageError, match="images of 28 x 30 pixels have no 3 scales"):
        ms_ssim(torch.rand(1, 1, 28, 30), torch.rand(1, 1, 28, 30), scales=3)


@pytest.fixture
def people(tmp_path):
    """A table with missing cells as a CSV file, and its cells."""
    rng = np.random.default_rng(0)
    cells = [
        [f"{rng.normal(170, 9):.2f}" if i % 7 else "", int(rng.integers(0, 9)), rng.choice(["a", "b", "c"]),
         bool(rng.random() < 0.4)]
        for i in range(60)
    ]  # fmt: skip
    with (tmp_path / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["height", "children", "city", "member"], *cells])
    return tmp_path / "people.csv", cells


def test_columns_have_errors_in_the_units_of_the_data(people):
    path, cells = people
    data = lb.load_data(path)
    model = lb.recipes.vae(data.spec, hidden=(9,), latent_dim=3).build(3)[0]
    rows, columns = data.train, data.spec.modelled
    made = model(rows.batch(slice(None)), 1, mode).px.mean[0].detach()
    found = column_errors(model, rows)
    assert list(found) == ["height", "children", "city", "member"]
    for place, column in enumerate(columns):
        known = [(i, cells[j][place]) for i, j in enumerate(rows.places.tolist()) if cells[j][place] != ""]
        if column.kind in ("numeric", "integer"):
            errors = [float(made[i, place]) * column.scale + column.offset - float(cell) for i, cell in known]
            wanted = np.sqrt(np.mean(np.square(errors)))
        elif column.kind == "boolean":
            wanted = np.mean([(float(made[i, place]) > 0.5) == cell for i, cell in known])
        else:
            wanted = np.mean([column.categories[int(made[i, place])] == cell for i, cell in known])
        assert found[column.name].value == pytest.approx(wanted, rel=1e-4)
        assert found[column.name].n == len(known)
    assert found["height"].n < len(rows) == found["city"].n
    assert found["height"].value > 5  # of a spread of 9: not in standard deviations
    assert rows.mask is not None
    only_gaps = column_errors(model, replace(rows, weight=1.0 - rows.mask[:, 0].float()))
    assert only_gaps["height"].value is None and "of weight 0" in (only_gaps["height"].reason or "")
    assert only_gaps["city"].value is not None


def test_the_error_of_a_root_mean_square_is_that_of_many_draws(people):
    # The delta method is right to a few percent here; the error of the mean square itself is 10 times as large.
    path, _ = people
    data = lb.load_data(path)
    model = lb.recipes.vae(data.spec, hidden=(9,), latent_dim=3).build(3)[0]
    number = column_errors(model, data.train)["height"]
    known = data.train.mask[:, 0] if data.train.mask is not None else slice(None)
    made = model(data.train.batch(slice(None)), 1, mode).px.mean[0].detach()
    squares = ((made - data.train.values())[:, 0][known] * data.spec.columns[0].scale).square().numpy()
    draws = np.random.default_rng(1).choice(squares, (4000, len(squares)))
    assert number.se == pytest.approx(np.sqrt(draws.mean(1)).std(), rel=0.1)
