"""The importance weighted bounds on the oracles: exact where a latent can be enumerated or lies on a grid."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from oracle_parts import constant_posterior, f64, on_grid, z_score
from test_enumerable import BOUNDS, LOG_PX, Q, enumerated, one_group
from test_enumerable import X as COUNTS
from test_linear_gaussian import LOG_PX as LINEAR_LOG_PX
from test_linear_gaussian import POSTERIOR_MEAN, POSTERIOR_VARIANCE, B, W, X, model_with

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.core.objective import Objective, Outcome, first_step
from lowerbound.core.types import Trace
from lowerbound.core.walk import replay
from lowerbound.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, STL, DReG, Renyi

STEP = first_step()


def tuples_of(num_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all 3^K tuples of classes `[3^K, K, 3]` and q's probability of each."""
    tuples = f64(list(itertools.product(torch.eye(3).tolist(), repeat=num_samples)))
    return tuples, (tuples @ Q).prod(1)


def on_trace(objective: Objective, trace: Trace, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Return the outcome of an objective that reads a given trace."""
    model = one_group()
    monkeypatch.setattr(model, "forward", lambda *_: trace)
    return objective(model, lb.Batch(torch.zeros(trace.log_px.shape[1], 2)), STEP)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4])
def test_every_tuple_in_a_row_of_its_own_gives_the_golden_bound(monkeypatch, num_samples: int) -> None:
    tuples, chance = tuples_of(num_samples)
    batch = lb.Batch(COUNTS.expand(len(tuples), 2), weight=len(tuples) * chance)
    model = one_group()
    trace = model(batch, num_samples, replay({0: tuples.transpose(0, 1)}))
    monkeypatch.setattr(model, "forward", lambda *_: trace)
    for objective, bound in (
        (IWAE(num_samples), BOUNDS[num_samples]),
        (MIWAE(1, num_samples), BOUNDS[num_samples]),
        (MIWAE(num_samples, 1), BOUNDS[1]),
        (CIWAE(num_samples, 0.0), BOUNDS[num_samples]),
        (CIWAE(num_samples, 0.3), 0.3 * BOUNDS[1] + 0.7 * BOUNDS[num_samples]),
        (CIWAE(num_samples, 1.0), BOUNDS[1]),
        (Renyi(0.0, num_samples), BOUNDS[num_samples]),
        (Renyi(1.0, num_samples), BOUNDS[1]),
    ):
        outcome = objective(model, batch, STEP)
        assert float(chance @ outcome.terms[objective.monitor]) == pytest.approx(bound, abs=1e-12)
        assert float(outcome.losses["model"]) == pytest.approx(-bound, abs=1e-12)  # the row weights are the chances
        assert float(chance @ outcome.terms["elbo"]) == pytest.approx(BOUNDS[1], abs=1e-12)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4])
def test_all_tuples_as_one_weighted_trace_give_the_golden_bound(monkeypatch, num_samples: int) -> None:
    """M = 3^K sets of K samples, each set with q's probability as its share: the average of bounds is exact."""
    tuples, chance = tuples_of(num_samples)
    trace = one_group()(lb.Batch(COUNTS), tuples.flatten(0, 1).shape[0], replay({0: tuples.flatten(0, 1)[:, None]}))
    share = (chance.log() - math.log(num_samples)).repeat_interleave(num_samples)[:, None]
    terms = on_trace(PIWAE(len(tuples), num_samples), replace(trace, log_share=share), monkeypatch).terms
    assert float(terms["miwae_bound"]) == pytest.approx(BOUNDS[num_samples], abs=1e-12)
    assert float(terms["iw_bound"]) == pytest.approx(LOG_PX, abs=1e-12)
    assert float(terms["elbo"]) == pytest.approx(BOUNDS[1], abs=1e-12)
    equal = on_trace(MIWAE(len(tuples), num_samples), trace, monkeypatch).terms["miwae_bound"]
    assert abs(float(equal) - BOUNDS[num_samples]) > 0.05  # an average that ignores the shares is another number


def test_the_bound_rises_with_the_number_of_samples() -> None:
    assert sorted(BOUNDS.values()) == list(BOUNDS.values())
    assert BOUNDS[4] < LOG_PX


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_unequal_shares_give_the_exact_values(monkeypatch, alpha: float) -> None:
    trace = enumerated(one_group(), COUNTS)
    w = (trace.log_w[:, 0]).exp()
    terms = {
        objective.monitor: on_trace(objective, trace, monkeypatch).terms[objective.monitor]
        for objective in (IWAE(3), CIWAE(3, 0.3), Renyi(alpha, 3))
    }
    exact = (Q @ w.pow(1 - alpha)).log() / (1 - alpha) if alpha != 1 else Q @ w.log()
    assert float(terms["iw_bound"]) == pytest.approx(LOG_PX, abs=1e-12)
    assert float(terms["ciwae_bound"]) == pytest.approx(0.3 * BOUNDS[1] + 0.7 * LOG_PX, abs=1e-12)
    assert float(terms["renyi_bound"]) == pytest.approx(float(exact), abs=1e-12)


def renyi_divergence(alpha: float, q: tuple[float, float], p: tuple[float, float]) -> float:
    """D_alpha(q || p) of two normals, each (mean, variance)."""
    mixed = alpha * p[1] + (1 - alpha) * q[1]
    spread = 0.5 * math.log(p[1] / q[1]) + 0.5 / (alpha - 1) * math.log(p[1] / mixed)
    return spread + 0.5 * alpha * (q[0] - p[0]) ** 2 / mixed


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_renyi_bound_is_log_p_minus_the_divergence_from_the_posterior(monkeypatch, alpha: float) -> None:
    """On a grid, so without sampling; alpha = 1/2 has a golden value of its own. Below 0 it lies above log p(x)."""
    q = (0.5, math.exp(-1))
    trace = on_grid(constant_posterior(model_with(), [q[0]], [q[1]]), lb.Batch(X[:1]))
    found = float(on_trace(Renyi(alpha, 4001), trace, monkeypatch).terms["renyi_bound"])
    if alpha == 1:
        assert found == pytest.approx(-5.633066812292332, abs=1e-9)
    else:
        divergence = renyi_divergence(alpha, q, (POSTERIOR_MEAN, POSTERIOR_VARIANCE))
        assert found == pytest.approx(LINEAR_LOG_PX - divergence, abs=1e-9)
    if alpha == 0.5:
        assert found == pytest.approx(-3.1979828723463, abs=1e-10)
    assert (found > LINEAR_LOG_PX + 1e-9) == (alpha < 0)


ALL = (
    ELBO(3), IWAE(4), MIWAE(2, 3), CIWAE(5, 0.2), PIWAE(3, 2), STL(1), DReG(6), Renyi(0.5, 4), Renyi(2.0, 4),
    Renyi(1.0, 2),
)  # fmt: skip
by_name = pytest.mark.parametrize("objective", ALL, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'alpha', '')}")


@by_name
def test_every_bound_lies_between_the_elbo_and_log_p(objective: Objective) -> None:
    """20,000 rows of each of two data; false-fail rate below 4e-8 for each of the three z-scores."""
    model = constant_posterior(model_with(), [0.1], [0.3])
    for x in X[[0, 2]]:
        log_px = torch.distributions.MultivariateNormal(B, W @ W.T + 0.5 * torch.eye(2)).log_prob(x)
        elbo = ELBO(2)(model, lb.Batch(x.expand(20_000, 2)), STEP).terms["elbo"]
        terms = objective(model, lb.Batch(x.expand(20_000, 2)), STEP).terms
        for bound in {objective.monitor, "elbo"}:
            assert z_score(terms[bound], log_px) < -5.5  # q is no posterior: the gap is clear
        assert abs(z_score(terms["elbo"] - elbo, 0.0)) < 5.5
        if getattr(objective, "alpha", 0.0) <= 1:
            assert z_score(terms[objective.monitor] - elbo, 0.0) > -5.5


def test_with_a_missing_value_the_bound_is_on_what_was_observed() -> None:
    """q is the posterior given the first value alone, so every draw is log N(x_1; b_1, W_1^2 + s^2)."""
    variance = 1 / (1 + 1.0 / 0.5)
    model = constant_posterior(model_with(), [variance * 0.2 / 0.5], [variance])
    exact = torch.distributions.Normal(f64(0.1), f64(1.5).sqrt()).log_prob(X[0, 0])
    for hidden in (-0.7, 1e4):
        batch = lb.Batch(f64([[0.3, hidden]]), mask=f64([[1.0, 0.0]]))
        for objective in (IWAE(4), MIWAE(2, 3), DReG(5), Renyi(0.5, 4)):
            bound = objective(model, batch, STEP).terms[objective.monitor]
            assert float(bound) == pytest.approx(float(exact), abs=1e-10)


@pytest.mark.parametrize(
    "objective", [IWAE(1), MIWAE(1, 1), CIWAE(1, 0.7), PIWAE(1, 1), STL(1), DReG(1), Renyi(0.5, 1), Renyi(-2.0, 1)]
)
def test_one_sample_is_the_elbo_draw_by_draw(objective: Objective) -> None:
    model = constant_posterior(model_with(), [0.5], [0.4])
    torch.manual_seed(1)
    log_w = model(lb.Batch(X), 1).log_w[0]
    torch.manual_seed(1)
    torch.testing.assert_close(objective(model, lb.Batch(X), STEP).terms[objective.monitor], log_w)


def test_of_the_same_draws_the_bounds_are_ordered() -> None:
    """log-mean-exp by sets lies between the mean and that of all; Renyi's falls with alpha."""
    model = constant_posterior(model_with(), [0.5], [0.4])

    def of(objective: Objective) -> torch.Tensor:
        torch.manual_seed(2)
        return objective(model, lb.Batch(X), STEP).terms[objective.monitor]

    torch.testing.assert_close(of(MIWAE(6, 1)), of(CIWAE(6, 1.0)))
    torch.testing.assert_close(of(MIWAE(1, 6)), of(IWAE(6)))
    torch.testing.assert_close(of(CIWAE(6, 0.0)), of(IWAE(6)))
    torch.testing.assert_close(of(PIWAE(2, 3)), of(IWAE(6)))
    torch.testing.assert_close(of(Renyi(0.0, 6)), of(IWAE(6)))
    torch.testing.assert_close(of(Renyi(1.0, 6)), of(ELBO(6)))
    torch.testing.assert_close(of(Renyi(0.999, 6)), of(CIWAE(6, 1.0)), rtol=0, atol=0.02)
    rising = [of(o) for o in (Renyi(3.0, 6), MIWAE(6, 1), MIWAE(3, 2), MIWAE(1, 6), Renyi(-1.0, 6))]
    assert all(bool((low < high).all()) for low, high in itertools.pairwise(rising))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: IWAE(0), "number of samples cannot be 0"),
        (lambda: DReG(-1), "number of samples cannot be -1"),
        (lambda: STL(0), "number of samples cannot be 0"),
        (lambda: MIWAE(0, 3), "num_outer"),
        (lambda: PIWAE(3, 0), "num_inner"),
        (lambda: CIWAE(5, 1.5), "mix"),
        (lambda: CIWAE(5, float("nan")), "mix"),
        (lambda: Renyi(float("inf")), "alpha cannot be inf"),
        (lambda: Renyi(0.9999), "alpha cannot be 0.9999"),
        (lambda: Renyi(0.5, 0), "number of samples cannot be 0"),
    ],
)
def test_wrong_options_are_refused(make, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()
