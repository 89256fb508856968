"""Binary pixels from a one-dimensional latent: log p(x), the ELBO and their gap by integration and by sampling."""

import itertools
import math

import pytest
import torch
from oracle_parts import constant_posterior, expected_bound, f64, linear_model, on_grid, set_posterior, z_score
from torch import Tensor

import lowerbound as lb
from lowerbound.core.walk import Source, from_posterior, from_prior
from lowerbound.families import Bernoulli

THREE = (f64([[1.5], [-2.0], [0.7]]), f64([0.2, -0.1, -1.0]))
FOUR = (f64([[1.0], [-2.0], [0.5], [3.0]]), f64([0.0, 0.5, -1.0, 0.2]))
X, LOG_PX = f64([[1.0, 0.0, 1.0]]), -1.9399532424302948
MEAN, VARIANCE = [0.6], [0.9]  # of q; wider than the posterior, so that the weights are bounded
ROWS = 4000  # estimates of each kind


def model_of(decoder: tuple[Tensor, Tensor]) -> lb.VAE:
    weight, bias = decoder
    return constant_posterior(linear_model(Bernoulli((len(bias),)), weight, bias), MEAN, VARIANCE)


def outcomes(pixels: int) -> Tensor:
    return f64(list(itertools.product([0.0, 1.0], repeat=pixels)))


def log_posterior(decoder: tuple[Tensor, Tensor], x: Tensor, z: Tensor) -> Tensor:
    """log p(z|x) on the grid `z`, written without the library: Bayes' rule with the sum over the grid."""
    chance = torch.sigmoid(z[:, None] * decoder[0].T + decoder[1])
    joint = torch.where(x == 1, chance, 1 - chance).prod(1).log() - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    return joint - torch.log((joint.exp() * (z[1] - z[0])).sum())


@pytest.mark.parametrize(("decoder", "x", "golden"), [(THREE, X, LOG_PX), (FOUR, f64([[1, 0, 1, 1]]), -2.410123747466)])
def test_log_p_has_the_golden_value(decoder: tuple[Tensor, Tensor], x: Tensor, golden: float) -> None:
    trace = on_grid(model_of(decoder), lb.Batch(x))
    assert float(trace.log_mean_exp(trace.log_w)) == pytest.approx(golden, abs=1e-10)


@pytest.mark.parametrize("decoder", [THREE, FOUR])
def test_the_probabilities_of_all_x_sum_to_one(decoder: tuple[Tensor, Tensor]) -> None:
    trace = on_grid(model_of(decoder), lb.Batch(outcomes(len(decoder[1]))))
    assert float(trace.log_mean_exp(trace.log_w).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_the_gap_is_the_divergence_from_the_posterior_for_every_x() -> None:
    model = model_of(THREE)
    set_posterior(model, f64([[0.5, -0.7, 0.1]]), f64([0.2]), f64([0.6]))  # another q for each x
    x = outcomes(3)
    trace = on_grid(model, lb.Batch(x))
    gaps = trace.log_mean_exp(trace.log_w) - trace.mean(trace.log_w)
    z = torch.linspace(-13, 13, 20001, dtype=torch.float64)
    for i, gap in enumerate(gaps):
        q = torch.distributions.Normal(0.2 + (x[i] * f64([0.5, -0.7, 0.1])).sum(), math.sqrt(0.6))
        log_q = q.log_prob(z)
        divergence = (log_q.exp() * (log_q - log_posterior(THREE, x[i], z))).sum() * (z[1] - z[0])
        assert float(gap) == pytest.approx(float(divergence), abs=1e-9)
        assert gap > 1e-3


def test_distortion_and_rate_are_integrals_too() -> None:
    """Their definitions, with sums over a grid of our own; the closed-form rate is the integral of log q - log p."""
    trace = on_grid(model_of(THREE), lb.Batch(X))
    z = torch.linspace(-13, 13, 20001, dtype=torch.float64)
    q = torch.distributions.Normal(f64(MEAN[0]), f64(VARIANCE[0]).sqrt())
    p = torch.distributions.Normal(f64(0.0), f64(1.0))
    share = q.log_prob(z).exp() * (z[1] - z[0])
    chance = torch.sigmoid(z[:, None] * THREE[0].T + THREE[1])
    distortion = -(share * torch.where(X == 1, chance, 1 - chance).log().sum(1)).sum()
    assert float(trace.terms()["distortion"]) == pytest.approx(float(distortion), abs=1e-9)
    rate = (share * (q.log_prob(z) - p.log_prob(z))).sum()
    assert float(trace.terms()["rate"]) == pytest.approx(float(rate), abs=1e-9)
    drawn = model_of(THREE)(lb.Batch(X)).kl
    assert float(drawn) == pytest.approx(float(rate), abs=1e-9)


def estimates(model: lb.VAE, source: Source, num_samples: int) -> Tensor:
    """Return `ROWS` independent estimates of log p(x) by the library's evaluation."""
    spec = lb.DataSpec("repeated", (3,), "table", "binary", ROWS)
    rows = lb.Dataset(X.float().expand(ROWS, 3), None, spec, "test")
    return lb.score(model.float(), rows, num_samples=num_samples, seed=3, source=source).log_px


@pytest.mark.parametrize("source", [from_prior, from_posterior])
@pytest.mark.parametrize("num_samples", [1, 10, 100])
def test_sampling_agrees_with_integration(source: Source, num_samples: int) -> None:
    """The mean of `ROWS` estimates with L samples against its integral; false-fail rate 8e-8 (two z-scores)."""
    q = ([0.0], [1.0]) if source is from_prior else (MEAN, VARIANCE)
    grid = on_grid(constant_posterior(model_of(THREE), *q), lb.Batch(X))
    expected = float(grid.mean(grid.log_w)) if num_samples == 1 else expected_bound(grid, num_samples)
    found = estimates(model_of(THREE), source, num_samples)
    assert abs(z_score(found, expected)) < 5.5
    assert abs(z_score(found.exp(), math.exp(LOG_PX))) < 5.5  # the mean weight is unbiased for every L


@pytest.mark.parametrize("q", [([0.0], [1.0]), (MEAN, VARIANCE), ([0.7], [0.55])])
def test_the_bounds_rise_to_log_p(q: tuple[list[float], list[float]]) -> None:
    grid = on_grid(constant_posterior(model_of(THREE), *q), lb.Batch(X), reach=7.0)
    bounds = [float(grid.mean(grid.log_w)), *(expected_bound(grid, k) for k in (10, 20, 100)), LOG_PX]
    assert bounds == sorted(bounds)
    assert min(b - a for a, b in itertools.pairwise(bounds)) > 1e-5


def test_weights_from_q_are_needed() -> None:
    """The mean of p(x|z) over draws of q, without weights, is another number than p(x)."""
    grid = on_grid(model_of(THREE), lb.Batch(X))
    assert abs(float(grid.log_mean_exp(grid.log_px)) - LOG_PX) > 0.1
