"""Densities in the data's own units: the change of variables, by hand and by the exact answer of pPCA on iris."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from lowerbound import Annealing, evaluate, fit, from_arrays, rate_distortion, recipes, score
from lowerbound.core.errors import DataError
from lowerbound.core.walk import from_prior

N, D = 61, 4


@pytest.fixture(scope="module")
def iris():
    return np.asarray(load_iris().data)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, D)) * [1, 10, 1000, 0.01] + [5, -3, 0, 7]
    x[rng.random((N, D)) < 0.2] = np.nan
    data = from_arrays(x, standardize=True, missing="keep", name="scaled", seed=2)
    return fit(recipes.vae(data.spec, latent_dim=2, hidden=(9,)), data, epochs=2, progress=False).model, data


def test_each_row_is_moved_by_the_log_scales_of_its_observed_cells(trained):
    model, data = trained
    rows = data.test.matching(model.spec)
    ours, theirs = (score(model, rows, num_samples=7, units=units) for units in ("data", "model"))
    assert rows.mask is not None and not bool(rows.mask.all())
    expected = [
        sum(math.log(c.scale) for c, seen in zip(data.spec.columns, row, strict=True) if seen) for row in rows.mask
    ]
    torch.testing.assert_close(theirs.log_px - ours.log_px, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(ours.distortion - theirs.distortion, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(ours.rate, theirs.rate)


def test_standardised_iris_moves_by_the_published_jacobian(iris):
    """sum log sd of iris is -0.7356 nats (1/n, all rows), so -3.686 in standardised units is -2.951 in centimetres."""
    data = from_arrays(iris, standardize=True, test_fraction=0.0, valid_fraction=0.0)
    assert float(data.spec.log_scale.sum()) == pytest.approx(float(np.log(iris.std(0)).sum()), abs=1e-12)
    assert float(data.spec.log_scale.sum()) == pytest.approx(-0.7356, abs=5e-5)


def test_a_trained_model_scores_the_same_points_alike_in_any_unit():
    """The same data in metres and in millimetres: equal models, and densities that differ by log 1000 a column."""
    x = np.random.default_rng(3).normal(size=(N, 3)) + 2
    runs = []
    for factor in (1.0, 1000.0):
        data = from_arrays(x * factor, standardize=True, seed=1)
        run = fit(recipes.vae(data.spec, latent_dim=2, hidden=(5,)), data, epochs=2, progress=False)
        runs.append(evaluate(run.model, data.test, num_samples=3).nll.value)
    assert runs[1] - runs[0] == pytest.approx(3 * math.log(1000), abs=1e-3)


def test_the_evaluation_names_units_and_target(trained):
    model, data = trained
    numbers = evaluate(model, data.test, num_samples=2, units="model")
    assert (numbers.units, numbers.nll.target) == ("model", "log p(x_observed)")


def test_rows_standardised_by_themselves_are_refused(trained):
    model, _ = trained
    other = from_arrays(np.random.default_rng(5).normal(size=(N, D)), standardize=True)
    with pytest.raises(DataError, match="not read as the columns"):
        evaluate(model, other.test)


def test_a_missing_cell_is_integrated_out():
    """With a likelihood that factorises, log p(x_observed|z) is the sum over observed cells: checked with K = 1."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(N, 3))
    x[::3, 1] = np.nan
    data = from_arrays(x, missing="keep", test_fraction=0.0, valid_fraction=0.0)
    model, _ = recipes.vae(data.spec, latent_dim=2, hidden=(5,)).build(1)
    batch = data.train.batch(slice(0, 7))
    wild = batch.x.clone()
    wild[batch.mask == 0] = 1e6
    torch.manual_seed(0)
    one = model(batch)
    torch.manual_seed(0)
    batch.x = wild
    assert torch.equal(one.log_px, model(batch).log_px)


def test_weights_of_rows_weigh_means():
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(N, 2)), rng.integers(1, 4, N)
    kept = from_arrays(x, weight=w, test_fraction=0.0, valid_fraction=0.0)
    repeated = from_arrays(np.repeat(x, w, 0), test_fraction=0.0, valid_fraction=0.0)
    assert float(kept.train.weight.mean()) == pytest.approx(1)
    model, _ = recipes.ae(kept.spec, latent_dim=1, hidden=(3,)).build(2)
    ours, theirs = (evaluate(model, d.train).distortion for d in (kept, repeated))
    assert ours.value == pytest.approx(theirs.value, rel=1e-6)
    assert evaluate(model, kept.train).weighted and not evaluate(model, repeated.train).weighted


def test_the_curve_over_beta_is_in_the_units_it_names_and_weighed_as_its_rows_are():
    rng, few = np.random.default_rng(8), Annealing(4, 2, 2)
    x, w = rng.normal(size=(12, 2)) * [1, 1000], np.repeat([0, 3], 6)
    data = from_arrays(x, weight=w, standardize=True, test_fraction=0.0, valid_fraction=0.0)
    model, _ = recipes.vae(data.spec, latent_dim=1, hidden=(3,)).build(2)
    ours, theirs = (rate_distortion(model, data.train, few, seed=1, units=units) for units in ("data", "model"))
    scales = float(data.spec.log_scale.sum())
    assert scales > 5
    torch.testing.assert_close(ours.distortion - theirs.distortion, torch.full((5,), scales, dtype=torch.float64))
    assert torch.equal(ours.rate, theirs.rate)
    start = score(model, data.train, num_samples=400, source=from_prior, units="data").distortion
    heavy, light = (float(start[data.train.weight == weight].mean()) for weight in (2, 0))
    assert abs(heavy - light) > 0.05
    draws = rate_distortion(model, data.train, Annealing(1, 400, 1), seed=1).distortion[0]
    assert float(draws) == pytest.approx(heavy, abs=0.02)  # at beta = 0 the code is the prior


def test_nothing_observed_has_no_bits_for_each_dimension():
    data = from_arrays(np.eye(3, dtype=bool)[[0, 1, 2, 2] * 5], missing="keep", test_fraction=0.0, valid_fraction=0.0)
    model, _ = recipes.vae(data.spec, latent_dim=1, hidden=(3,)).build(2)
    found = evaluate(model, replace(data.train, mask=torch.zeros(20, 3)), num_samples=2)
    assert found.nll.value is not None
    assert found.bits_per_dim.value is None
    assert "no value is observed" in (found.bits_per_dim.reason or "")
