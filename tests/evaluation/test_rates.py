"""The rate of each dimension: a closed form for each, and their sum is the rate."""

import pytest
import torch

from lowerbound import evaluate, fit, load_data, recipes
from lowerbound.core.errors import Incompatible, NoDensity, UsageError
from lowerbound.evaluation import rate_per_dimension


def trained(name="vae", **options):
    data = load_data("digits")
    run = fit(getattr(recipes, name)(data.spec, latent_dim=5, hidden=(11,), **options), data, epochs=2, progress=False)
    return run.model, data.test.matching(run.recipe.spec)


@pytest.mark.parametrize("name", ["vae", "cvae"])
def test_they_sum_to_the_rate(name):
    model, rows = trained(name)
    rates = rate_per_dimension(model, rows)
    assert rates.shape == (5,)
    assert float(rates.sum()) == pytest.approx(evaluate(model, rows, num_samples=2).rate.value, rel=1e-5)


def test_each_is_the_closed_form_of_its_dimension():
    model, rows = trained()
    with torch.no_grad():
        q = model.infer(rows.batch(slice(None)).x)
    wanted = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).double().mean(0)
    assert torch.allclose(rate_per_dimension(model, rows), wanted, rtol=1e-5)
    assert wanted.min() < 0.9 * wanted.max()


def test_nothing_is_drawn_from_the_callers_generator():
    model, rows = trained()
    before = torch.random.get_rng_state()
    rate_per_dimension(model, rows)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_rows_have_no_rate():
    model, rows = trained()
    with pytest.raises(UsageError, match="0 test examples"):
        rate_per_dimension(model, rows.rows(slice(0, 0)))


def test_points_have_no_rate():
    model, rows = trained("ae")
    with pytest.raises(NoDensity, match="point"):
        rate_per_dimension(model, rows)


def test_a_latent_that_does_not_split_is_refused(monkeypatch):
    from lowerbound.core.distribution import Distribution
    from lowerbound.families.normal import DiagonalNormal

    model, rows = trained()
    monkeypatch.setattr(DiagonalNormal, "elements", Distribution.elements)
    with pytest.raises(Incompatible, match="does not split"):
        rate_per_dimension(model, rows)
