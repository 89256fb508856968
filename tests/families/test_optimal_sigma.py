"""OptimalNormal: its variance is that of the training residuals, step by step, and never that of the scored rows."""

import math

import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.core.types import Batch, Trace
from lowerbound.core.walk import mode
from lowerbound.families import OptimalNormal
from lowerbound.train.update import Guard, make_optimizers, update


def made():
    data = lb.load_data("digits")
    recipe = lb.recipes.sigma_vae(data.spec, latent_dim=3, hidden=(11,), decay=0.7)
    return recipe, data.train.matching(recipe.spec)


def test_sigma_is_the_running_mean_of_the_squared_errors() -> None:
    recipe, rows = made()
    model, objective = recipe.build()
    family = model.decoder.family
    optimizers, guard = make_optimizers(objective.players(model), recipe.training), Guard(torch.device("cpu"))
    with torch.no_grad():
        family.mean_square.fill_(0.2)
    expected = 0.2
    for step in range(4):
        batch = rows.batch(slice(10 * step, 10 * step + 10))
        outcome = update(objective, model, optimizers, batch, torch.tensor(float(step)), guard)
        error = float((batch.x - outcome.trace.px.mean).detach().square().mean())
        assert float(outcome.trace.px.variance.max()) == pytest.approx(expected, rel=1e-5)  # the v of before
        expected = 0.7 * expected + 0.3 * error
    assert float(family.mean_square) == pytest.approx(expected, rel=1e-5)


def test_a_row_is_scored_alike_whatever_is_scored_beside_it() -> None:
    recipe, rows = made()
    model, _ = recipe.build()
    before = float(model.decoder.family.mean_square)
    scores = []
    for index in ([0, 1], [0, 5, 6, 7]):
        with torch.no_grad():
            scores.append(model(rows.batch(torch.tensor(index)), 1, mode).log_px[0, 0])
    assert float(scores[0]) == pytest.approx(float(scores[1]), rel=1e-6)
    assert float(model.decoder.family.mean_square) == before


def test_masks_and_weights_count() -> None:
    family = OptimalNormal((3,), decay=0.0)
    x = torch.tensor([[1.0, math.nan, 3.0], [2.0, 0.0, 0.0]])
    mask, weight = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]), torch.tensor([1.5, 0.5])
    trace = Trace((), family(torch.zeros(2, 2, 3)), torch.zeros(2, 2), torch.zeros(2, 2))
    with torch.no_grad():
        family.after_step(family.statistics(trace, Batch(x, mask=mask, weight=weight)))
    assert float(family.mean_square) == pytest.approx((1.5 * (1 + 9) + 0.5 * 4) / (1.5 * 2 + 0.5 * 3))
    with torch.no_grad():
        family.after_step(family.statistics(trace, Batch(x, mask=0 * mask)))
    assert math.isfinite(float(family.mean_square))


def test_samples_count_by_their_shares() -> None:
    """An objective that sums over classes weighs the reconstruction of each by q(y|x)."""
    family, share = OptimalNormal((2,), decay=0.0), torch.tensor([[0.9, 0.3], [0.1, 0.7]])
    x, means = torch.zeros(2, 2), torch.tensor([1.0, 2.0]).reshape(2, 1, 1).expand(2, 2, 2)
    trace = Trace((), family(means), torch.zeros(2, 2), share.log())
    with torch.no_grad():
        family.after_step(family.statistics(trace, Batch(x)))
    assert float(family.mean_square) == pytest.approx(0.5 * (0.9 * 1 + 0.1 * 4 + 0.3 * 1 + 0.7 * 4))


def test_it_starts_at_the_variance_of_the_data_and_keeps_its_floor() -> None:
    family = OptimalNormal((2,), floor=0.1)
    with torch.no_grad():
        mean = family.bias_for(torch.tensor([1.0, 2.0]), torch.tensor([0.3, 0.5]))
    torch.testing.assert_close(family(mean).variance, torch.full((2,), 0.4))
    with torch.no_grad():
        family.mean_square.zero_()
    torch.testing.assert_close(family(mean).variance, torch.full((2,), 0.01))
    assert "mean_square" in family.state_dict()


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"floor": 0.0}])
def test_impossible_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        OptimalNormal((2,), **wrong)
