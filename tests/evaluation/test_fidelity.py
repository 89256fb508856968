"""Distances of samples: against closed forms, brute force and constructed sets; and a model's samples."""

import json
import math

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, Incompatible, ShapeError, UsageError
from lowerbound.data.dataset import Data
from lowerbound.evaluation.features import component_features
from lowerbound.evaluation.fidelity import (
    SampleQuality,
    draw_samples,
    fidelity,
    kernel_distance,
    neighbourhoods,
    sample_quality,
)

DIMS = 3


def normal(rows, *, mean=0.0, seed=0, dims=DIMS):
    return mean + torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected_kernel(a, b, ab):
    """E (x . y / F + 1)^3 for independent x ~ N(m, I) and y ~ N(n, I); a = |m|^2, b = |n|^2, ab = m . n."""
    second = DIMS + a + b + ab**2
    third = 3 * ab * (DIMS + a + b) + ab**3 + 6 * ab
    return third / DIMS**3 + 3 * second / DIMS**2 + 3 * ab / DIMS + 1


def true_kernel_distance(shift):
    """MMD^2 of N(0, I) and N((shift, ..., shift), I)."""
    squared = DIMS * shift**2
    return expected_kernel(0, 0, 0) + expected_kernel(squared, squared, squared) - 2 * expected_kernel(0, squared, 0)


def test_the_closed_form_agrees_with_many_draws():
    x, y = normal(400_000, seed=1), normal(400_000, mean=0.7, seed=2)
    z = normal(400_000, mean=0.7, seed=3)
    each = [((a * b).sum(1) / DIMS + 1) ** 3 for a, b in ((x, x.roll(1, 0)), (y, z), (x, y))]
    value = each[0].mean() + each[1].mean() - 2 * each[2].mean()
    se = math.sqrt(float(each[0].var() + each[1].var() + 4 * each[2].var()) * 2 / 400_000)  # 2: pairs of x overlap
    assert abs(float(value) - true_kernel_distance(0.7)) < 5.4 * se  # fails once in 1e7


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.7])
def test_the_kernel_distance_is_unbiased_and_its_error_is_right(shift):
    x, y = normal(6000, seed=1), normal(5400, mean=shift, seed=2)
    found = kernel_distance(x, y, blocks=150)
    assert abs(found.value - true_kernel_distance(shift)) < 5.4 * found.se  # fails once in 1e7
    # a negative control: the estimate that counts each row with itself
    squared = DIMS * shift**2
    between = expected_kernel(0, 0, 0), expected_kernel(squared, squared, squared)
    itself = [float(((a.square().sum(1) / DIMS + 1) ** 3).mean()) for a in (x, y)]
    bias = (itself[0] - between[0]) / 40 + (itself[1] - between[1]) / 36
    assert abs(found.value + bias - true_kernel_distance(shift)) > 5.4 * found.se
    assert (found.kind, found.n) == ("estimate", 6000)


def test_the_kernel_distance_does_not_ask_for_the_order_of_rows():
    # rows in the order of a column: blocks of neighbours would each be far from the other sample
    x, y = normal(2000).sort(0).values, normal(2000, seed=1)
    found = kernel_distance(x[:, :1], y[:, :1], blocks=50)
    assert abs(found.value) < 5.4 * found.se


def test_the_kernel_distance_is_its_formula_pair_by_pair():
    x, y = normal(4, dims=2), normal(6, dims=2, seed=1)
    found = kernel_distance(x, y, blocks=2, seed=5)

    def slow(a, b):
        k = lambda s, t: (float(s @ t) / 2 + 1) ** 3  # noqa: E731
        inside = [np.mean([k(s, t) for i, s in enumerate(g) for j, t in enumerate(g) if i != j]) for g in (a, b)]
        return sum(inside) - 2 * np.mean([k(s, t) for s in a for t in b])

    ways = []
    for i in range(1, 4):
        rest = [j for j in range(1, 4) if j != i]
        for trio in ((0, j, k) for j in range(1, 6) for k in range(j + 1, 6)):
            others = [j for j in range(6) if j not in trio]
            for first, second in ((trio, others), (others, trio)):
                ways.append((slow(x[[0, i]], y[list(first)]) + slow(x[rest], y[list(second)])) / 2)
    assert min(abs(found.value - w) for w in ways) < 1e-12


def brute_force(rows, real, near, wide):
    """The four numbers from sorted lists of distances, row by row."""
    rows, real = rows.numpy(), real.numpy()

    def radius(points, i, k):
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    reals = {k: [radius(real, i, k) for i in range(len(real))] for k in (near, wide)}
    fakes = [radius(rows, i, near) for i in range(len(rows))]
    precision = np.mean([any(np.linalg.norm(r - s) <= d for r, d in zip(real, reals[near], strict=True)) for s in rows])
    recall = np.mean([any(np.linalg.norm(r - s) <= d for s, d in zip(rows, fakes, strict=True)) for r in real])
    density = np.sum([np.linalg.norm(r - s) <= d for r, d in zip(real, reals[wide], strict=True) for s in rows])
    coverage = np.mean([min(np.linalg.norm(r - s) for s in rows) <= d for r, d in zip(real, reals[wide], strict=True)])
    return precision, recall, density / wide / len(rows), coverage


@pytest.mark.parametrize(("near", "wide", "offset"), [(3, 5, 0.0), (2, 7, 1e4)])
def test_neighbourhoods_are_those_of_brute_force(monkeypatch, near, wide, offset):
    rows, real = normal(41, mean=1.0) + offset, normal(37, seed=1) + offset
    found = neighbourhoods(rows, real, near=near, wide=wide)
    wanted = brute_force(rows, real, near, wide)
    assert tuple(vars(found).values()) == pytest.approx(wanted, abs=1e-12)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1
    monkeypatch.setattr("lowerbound.evaluation.fidelity._PAIRS", 100)
    assert neighbourhoods(rows, real, near=near, wide=wide) == found


def test_the_same_rows_cover_each_other_and_far_ones_do_not():
    rows = normal(60, dims=40)
    same = neighbourhoods(rows, rows.flip(0))
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1 + 1 / 5)  # the row itself and those whose neighbour it is, border included
    apart = neighbourhoods(rows, rows + 100)
    assert tuple(vars(apart).values()) == (0, 0, 0, 0)


def clusters(places, each, seed):
    """Rows around some of four places far from each other."""
    draws = normal(each * len(places), seed=seed, dims=2)
    return draws + 1000 * torch.tensor([[p % 2, p // 2] for p in places], dtype=torch.float64).repeat_interleave(
        each, 0
    )


def test_a_dropped_mode_lowers_recall_and_coverage_and_an_invented_one_precision_and_density():
    real = clusters((0, 1, 2, 3), 30, 0)
    dropped = neighbourhoods(clusters((0, 1), 60, 1), real)
    assert dropped.recall <= 0.5
    assert dropped.coverage == pytest.approx(0.5, abs=0.05)
    assert dropped.precision > 0.8
    invented = neighbourhoods(real, clusters((0, 1), 60, 1))
    assert invented.precision <= 0.5
    assert invented.density <= 0.6
    assert invented.recall > 0.8
    # one row for each mode is near to real rows, but covers few of them
    collapsed = neighbourhoods(real[::30].repeat_interleave(30, 0), real)
    assert collapsed.precision == 1
    assert collapsed.recall <= 4 / 120
    assert collapsed.coverage < 0.5


def test_density_is_one_and_coverage_known_for_one_distribution():
    found = [neighbourhoods(normal(60, seed=2 * i), normal(60, seed=2 * i + 1)) for i in range(150)]
    for name, truth in (("density", 1.0), ("coverage", 1 - math.prod((59 - i) / (119 - i) for i in range(5)))):
        values = np.array([getattr(f, name) for f in found])
        assert abs(values.mean() - truth) < 5.4 * values.std(ddof=1) / math.sqrt(len(values))  # fails once in 1e7
        assert abs(values.mean() - truth * 0.9) > 5.4 * values.std(ddof=1) / math.sqrt(len(values))


def test_numbers_of_given_features_say_what_they_are():
    x, y = normal(400), normal(400, mean=2.0, seed=1)
    found = fidelity(x, y)
    # the shift's square, within the error of both means: 4 sqrt(2 / 400) for the three columns together
    assert found.fd.value == pytest.approx(4 * DIMS, abs=5.4 * 2 * 2 * math.sqrt(2 * DIMS / 400) + 0.2)
    assert fidelity(x, y - 2).fd.value < 0.2
    assert set(found.named("cnn_x")) == {"fd_cnn_x", "kid_cnn_x", "precision", "recall", "density", "coverage"}
    assert all(n.n == 400 and n.kind == "estimate" for n in found.named("cnn_x").values())
    assert found.kid.se is not None
    assert found.fd.se is None


@pytest.mark.parametrize("measure", [fidelity, kernel_distance, neighbourhoods])
def test_what_cannot_be_compared_is_refused(measure):
    rows = normal(30)
    with pytest.raises(ShapeError, match="of 3 and of 2 values"):
        measure(rows, rows[:, :2])
    with pytest.raises(DataError, match="has 4 rows"):
        measure(rows, rows[:4])
    broken = rows.clone()
    broken[2, 1] = torch.inf
    with pytest.raises(DataError, match="1 values of a sample are not finite"):
        measure(rows, broken)


def test_impossible_options_are_refused():
    rows = normal(30)
    with pytest.raises(UsageError, match="number of blocks cannot be 1"):
        kernel_distance(rows, rows, blocks=1)
    with pytest.raises(UsageError, match="neighbour 0"):
        neighbourhoods(rows, rows, near=0)


# the samples of models


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


@pytest.fixture(scope="module")
def model(digits):
    return lb.recipes.vae(digits.spec, hidden=(16,), latent_dim=3).build(seed=0)[0]


@pytest.fixture(scope="module")
def quality(digits, model):
    formed = Data(*(getattr(digits, s).matching(model.spec) for s in ("train", "valid", "test")))
    extractor = component_features(formed)
    return sample_quality(model, digits, num=100, extractor=extractor), extractor


def test_held_out_rows_are_better_samples_than_those_of_a_model_that_learned_nothing(quality):
    found, extractor = quality
    assert isinstance(found, SampleQuality)
    assert extractor.name == "pca_digits_dynamic"
    assert found.n == 100
    assert found.samples.fd.value > 1.5 * found.held_out.fd.value
    assert found.samples.kid.value > 5 * found.samples.kid.se
    assert found.samples.coverage.value < found.held_out.coverage.value
    assert not found.memorisation.copied
    assert found.binarisation == "dynamic"
    assert any("100 rows are few for 64 features" in line for line in found.warnings)


def test_samples_of_real_rows_score_as_real_rows_do(digits, model, quality, monkeypatch):
    # in place of the model's samples, training rows: the same numbers as for rows that it was not told apart from
    _, extractor = quality
    train, valid = (getattr(digits, s).matching(model.spec).values() for s in ("train", "valid"))
    monkeypatch.setattr("lowerbound.evaluation.fidelity.draw_samples", lambda *a, **k: train.repeat(2, 1, 1, 1)[:2000])
    assert sample_quality(model, digits, num=100, extractor=extractor).memorisation.copied
    monkeypatch.setattr("lowerbound.evaluation.fidelity.draw_samples", lambda *a, **k: valid)
    real = sample_quality(model, digits, num=100, extractor=extractor)
    assert not real.memorisation.copied
    assert abs(real.samples.kid.value - real.held_out.kid.value) < 8 * math.hypot(
        real.samples.kid.se, real.held_out.kid.se
    )
    assert real.samples.fd.value < 1.5 * real.held_out.fd.value


def test_the_rows_that_are_given_are_those_that_are_compared(digits, model, quality):
    _, extractor = quality
    valid = sample_quality(model, digits, num=100, extractor=extractor, split="valid")
    given = sample_quality(model, digits, num=100, extractor=extractor, held_out=digits.valid)
    assert given.to_json() == valid.to_json()
    assert given.split == "valid"
    trained_on = sample_quality(model, digits, num=100, extractor=extractor, held_out=digits.train.take(120))
    assert "100% of the held-out rows are training rows, too" in " ".join(trained_on.warnings)
    assert not any("training rows, too" in line for line in valid.warnings)


def test_what_is_reported(quality):
    found, _ = quality
    known = json.loads(json.dumps(found.to_json()))
    assert known["samples"]["fd_pca_digits_dynamic"]["n"] == 100
    assert known["held_out"]["kid_pca_digits_dynamic"]["se"] > 0
    assert known["show"] == "draw"
    assert known["memorisation"]["verdict"] in str(found)
    assert "fd_pca_digits_dynamic" in str(found).splitlines()[1]
    assert "fid" not in str(found).lower()
    assert str(found).splitlines()[-1].startswith("warning: ")


def test_numbers_do_not_depend_on_blocks_or_mode(digits, model, quality, monkeypatch):
    found, extractor = quality
    monkeypatch.setattr("lowerbound.evaluation.memorisation._BLOCK", 33)
    monkeypatch.setattr("lowerbound.evaluation.fidelity._PAIRS", 1000)
    model.train()
    again = sample_quality(model, digits, num=100, extractor=extractor)
    assert model.training
    model.eval()
    for side in ("samples", "held_out"):
        for one, other in zip(*(vars(getattr(q, side)).values() for q in (again, found)), strict=True):
            assert one.value == pytest.approx(other.value, rel=1e-9)
    assert str(again.memorisation) == str(found.memorisation)
    other = sample_quality(model, digits, num=100, extractor=extractor, seed=1)
    assert other.samples.fd.value != pytest.approx(found.samples.fd.value)


def test_draws_are_those_of_their_place(model):
    assert torch.equal(draw_samples(model, 120, seed=3)[:100], draw_samples(model, 100, seed=3))
    assert not torch.equal(draw_samples(model, 100, seed=3), draw_samples(model, 100, seed=4))
    assert set(draw_samples(model, 30).unique().tolist()) == {0, 1}


def test_means_are_samples_only_where_values_are_real(digits, model):
    with pytest.raises(UsageError, match="means of 0/1 values are no samples"):
        sample_quality(model, digits, show="mean")
    grey = lb.load_data("digits", binarize="none")
    gaussian = lb.recipes.sigma_vae(grey.spec, hidden=(16,), latent_dim=3).build(seed=0)[0]
    extractor = component_features(grey)
    means = sample_quality(gaussian, grey, num=50, show="mean", extractor=extractor)
    draws = sample_quality(gaussian, grey, num=50, extractor=extractor)
    assert means.warnings[0].startswith("samples are means of p(x|z)")
    assert means.samples.fd != draws.samples.fd
    assert means.held_out == draws.held_out


def test_a_conditional_model_is_given_the_labels_of_the_held_out_rows(digits, monkeypatch):
    model = lb.recipes.cvae(digits.spec, hidden=(16,), latent_dim=3).build(seed=0)[0]
    given, sample = [], model.sample
    monkeypatch.setattr(type(model), "sample", lambda self, num, y=None, **k: given.append(y) or sample(num, y, **k))
    sample_quality(model, digits, num=len(digits.test), extractor=component_features(digits))
    assert torch.equal(torch.cat(given)[: len(digits.test)], digits.test.labels())
    assert len(torch.cat(given)) == 2000
    with pytest.raises(UsageError, match="conditional, and there are no labels"):
        draw_samples(model, 3)


def test_tables_with_categories_and_missing_cells(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{rng.normal(5, 3):.3f},{'abc'[rng.integers(3)]}" for _ in range(400)]
    lines[::20] = [f",{line.split(',', 1)[1]}" for line in lines[::20]]
    (tmp_path / "rows.csv").write_text("u,v,w\n" + "\n".join(lines))
    data = lb.load_data(tmp_path / "rows.csv", test_fraction=0.3)
    model = lb.recipes.vae(data.spec, hidden=(8,), latent_dim=2).build(seed=0)[0]
    found = sample_quality(model, data)
    assert found.extractor == "columns_rows"
    assert 80 < found.n < len(data.test)
    assert "rows with missing cells are left out" in found.warnings
    assert found.held_out.fd.value < found.samples.fd.value


def test_too_few_rows_are_refused(digits, model):
    with pytest.raises(UsageError, match="5 samples cannot be compared"):
        sample_quality(model, digits, num=5)
    few = Data(digits.train, digits.valid, digits.test.take(7))
    with pytest.raises(DataError, match="has 7 test rows to compare"):
        sample_quality(model, few)


def test_samples_that_are_not_finite_are_refused(digits, model):
    broken = lb.recipes.sigma_vae(lb.load_data("digits", binarize="none").spec, hidden=(16,)).build(seed=0)[0]
    with torch.no_grad():
        next(broken.decoder.parameters()).fill_(math.nan)
    with pytest.raises(DataError, match="30 of 30 samples have a value that is not finite"):
        draw_samples(broken, 30)


def test_sequences_have_no_distances():
    data = lb.from_sequences(["ab", "b", "aab", "ba"] * 40)
    model = lb.recipes.sequence_vae(data.spec, latent_dim=2, width=8).build(0)[0]
    with pytest.raises(Incompatible, match="the numbers of their symbols have no distances"):
        sample_quality(model, data)
