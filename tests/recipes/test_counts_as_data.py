"""Counts from file to samples: read as counts, scored by a negative binomial, drawn as whole numbers."""

import csv

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, LowerboundError
from lowerbound.data.arrays import given_rows
from lowerbound.data.load import load_rows
from lowerbound.families import NegativeBinomial
from lowerbound.networks import LogCounts

NAMES = ("a", "b", "switch", "never")


def table(rows=120):
    """Return counts of four columns that share a cause: of two, of zeros and ones, and of zeros alone."""
    draw = np.random.default_rng(5)
    cause = draw.normal(size=(rows, 1))
    two = draw.poisson(np.exp(1 + cause @ np.array([[1.0, -0.5]])))
    return np.concatenate([two, draw.random((rows, 1)) < 0.3, np.zeros((rows, 1))], 1).astype(np.int64)


def written(path, values):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *values.tolist()])
    return path


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    path = written(tmp_path_factory.mktemp("counts") / "counts.csv", table())
    data = lb.load_data(str(path), standardize="no")
    return data, lb.fit(lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)), data, epochs=3, seed=1, progress=False)


def test_a_run_on_counts_learns_evaluates_and_draws_whole_numbers(counted):
    data, run = counted
    assert data.spec.support == "count"
    assert isinstance(run.model.decoder.family, NegativeBinomial)
    assert isinstance(run.model.encoder.networks[0], LogCounts)
    valid = [row["elbo"] for row in run.history if row["split"] == "valid"]
    assert valid[-1] > valid[0]
    assert np.isfinite(lb.evaluate(run.model, data.test).nll.value)
    draws = run.model.sample(50, show="draw", seed=2)
    assert torch.equal(draws, draws.round())
    assert float(draws.min()) >= 0


def test_what_makes_a_table_one_of_counts(tmp_path):
    """An integer type, nothing below 0 in any row, kept as it is; one negative cell in a row held out is enough."""
    whole = table()

    def support(values, **options):
        return lb.from_arrays(values, **options).spec.support

    assert support(whole) == support(whole, missing="keep") == "count"
    assert support(whole.astype(np.float32)) == "real"
    assert support(whole, standardize=True) == "mixed"
    assert support(whole.clip(0, 1)) == "binary"
    data = lb.from_arrays(whole)
    for part in (data.train, data.valid, data.test):
        one = whole.copy()
        one[int(part.places[0]), 1] = -1
        assert support(one) == "real"
        assert support(one, missing="keep") == "mixed"
    path = tmp_path / "t.csv"
    assert lb.load_data(str(written(path, whole))).spec.support == "mixed"
    assert lb.load_data(str(written(path, whole)), standardize="no").spec.columns[2].kind == "integer"


def test_new_rows_below_zero_or_between_counts_are_refused(counted, tmp_path):
    _, run = counted
    bad = table(5)
    bad[3, 1] = -2
    with pytest.raises(DataError, match=r"1 negative values.*row 4, column 'b'|negative"):
        load_rows(str(written(tmp_path / "bad.csv", bad)), run.model.spec)
    assert len(load_rows(str(written(tmp_path / "good.csv", table(5))), run.model.spec)[0]) == 5
    with pytest.raises(LowerboundError, match="cannot score"):
        lb.score(run.model, given_rows(torch.full((3, 4), 0.5), run.model.spec))
    rows = given_rows(torch.full((3, 4), 2.0), run.model.spec)
    assert bool(run.model(rows.batch(slice(0, 3)), 1).log_px.isfinite().all())


def test_missing_counts_are_kept_as_missing(tmp_path):
    values = table().astype(object)
    values[3, 1] = ""
    data = lb.load_data(str(written(tmp_path / "holes.csv", values)), standardize="no", missing="keep")
    assert (data.spec.support, data.spec.masked) == ("count", True)
    run = lb.fit(lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)), data, epochs=1, progress=False)
    network = run.model.encoder.networks[0]
    assert isinstance(network, LogCounts)
    assert network.reads_mask


def test_a_linear_encoder_of_counts_stays_linear():
    data = lb.from_arrays(table())
    model, _ = lb.recipes.linear_vae(data.spec).build()
    assert not isinstance(model.encoder.networks[0], LogCounts)
