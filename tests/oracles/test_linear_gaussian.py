"""Linear decoder with normal noise, where log p(x), the posterior and every bound have closed forms."""

import math

import pytest
import torch
from oracle_parts import (
    constant_posterior,
    cubature,
    expected_bound,
    f64,
    inject,
    linear_model,
    on_grid,
    set_posterior,
    z_score,
)
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import lowerbound as lb
from lowerbound.core.objective import first_step
from lowerbound.core.walk import from_prior
from lowerbound.families import FixedNormal
from lowerbound.objectives import ELBO

W, B, S2 = f64([[1.0], [2.0]]), f64([0.1, -0.2]), 0.5
X = f64([[0.3, -0.7], [1.9, 2.2], [-0.4, 0.0]])  # the golden row, and two more
LOG_PX = -2.517313885884949  # of the golden row, by the standard library's floats
POSTERIOR_MEAN, POSTERIOR_VARIANCE = -0.14545454545454545, 1 / 11
SECOND_MOMENT = 2.4271465424960277  # E[w^2] / E[w]^2 with w = p(x|z) and z from the prior


def marginal(weight: Tensor, bias: Tensor, s2: float) -> MultivariateNormal:
    return MultivariateNormal(bias, weight @ weight.T + s2 * torch.eye(len(bias), dtype=torch.float64))


def exact_posterior(weight: Tensor, bias: Tensor, s2: float, x: Tensor) -> MultivariateNormal:
    precision = torch.eye(weight.shape[1], dtype=torch.float64) + weight.T @ weight / s2
    mean = torch.linalg.solve(precision, weight.T @ (x - bias).T / s2).T
    return MultivariateNormal(mean, precision_matrix=precision.expand(len(x), -1, -1))


def model_with(weight: Tensor = W, bias: Tensor = B, s2: float = S2) -> lb.VAE:
    return linear_model(FixedNormal((len(bias),), scale=math.sqrt(s2)), weight, bias)


def with_exact_posterior(weight: Tensor = W, bias: Tensor = B, s2: float = S2) -> lb.VAE:
    """q is the posterior: exactly where the columns of `weight` are orthogonal, else its mean and precisions."""
    model = model_with(weight, bias, s2)
    precision = torch.eye(weight.shape[1], dtype=torch.float64) + weight.T @ weight / s2
    gain = torch.linalg.solve(precision, weight.T / s2)
    set_posterior(model, gain, -gain @ bias, 1 / precision.diagonal())
    return model


def test_the_exact_posterior_makes_every_draw_log_p() -> None:
    model = with_exact_posterior()
    trace = model(lb.Batch(X), 7)
    q = trace.latents[0].q
    assert float(q.mean[0]) == pytest.approx(POSTERIOR_MEAN, abs=1e-12)
    assert q.variance.flatten().tolist() == pytest.approx([POSTERIOR_VARIANCE] * 3, abs=1e-12)
    assert float(trace.log_w[3, 0]) == pytest.approx(LOG_PX, abs=1e-11)
    torch.testing.assert_close(trace.log_w, marginal(W, B, S2).log_prob(X).expand(7, 3), rtol=0, atol=1e-11)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 64])
def test_with_the_exact_posterior_every_k_sample_bound_is_log_p(num_samples: int) -> None:
    trace = with_exact_posterior()(lb.Batch(X), num_samples)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), marginal(W, B, S2).log_prob(X), rtol=0, atol=1e-11)
    torch.testing.assert_close(trace.mean(trace.log_w), marginal(W, B, S2).log_prob(X), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("mean", "variance", "beta", "distortion", "rate", "elbo", "objective"),
    [
        (0.0, 1.0, 1.0, 6.4347298858494, 0.0, -6.4347298858494, -6.4347298858494),
        (0.5, math.exp(-1), 1.0, 5.324127091706611, 0.30893972058572117, -5.633066812292332, -5.633066812292332),
        (0.5, math.exp(-1), 4.0, 5.324127091706611, 0.30893972058572117, -5.633066812292332, -6.559885974049496),
        (POSTERIOR_MEAN, POSTERIOR_VARIANCE, 1.0, None, None, LOG_PX, LOG_PX),
    ],
)
def test_elbo_objective_has_the_golden_values(
    monkeypatch, mean, variance, beta, distortion, rate, elbo, objective
) -> None:
    """eps = -1 and +1 have the mean and variance of eps ~ N(0, 1), and the distortion is quadratic in eps."""
    model = constant_posterior(model_with(), [mean], [variance])
    inject(monkeypatch, cubature(1))
    outcome = ELBO(num_samples=2, beta=beta)(model, lb.Batch(X[:1]), first_step())
    assert float(outcome.losses["model"]) == pytest.approx(-objective, abs=1e-10)
    assert float(outcome.terms["elbo"]) == pytest.approx(elbo, abs=1e-10)
    if distortion is not None:
        assert float(outcome.terms["distortion"]) == pytest.approx(distortion, abs=1e-10)
        assert float(outcome.terms["rate"]) == pytest.approx(rate, abs=1e-10)


def test_the_gradient_of_the_objective_is_that_of_the_closed_form(monkeypatch) -> None:
    """Also of the decoder and of both halves of the posterior, whose sizes differ: D = 5, L = 3, B = 4."""
    rows = torch.randn(4, 5, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    model = model_with(weight, bias, 0.7).requires_grad_(True)
    inject(monkeypatch, cubature(3))
    loss = ELBO(num_samples=6, beta=1.7)(model, lb.Batch(rows), first_step()).losses["model"]
    q, decoder = model.infer(rows), model.decoder.network.out
    residual = (rows - q.mean @ decoder.weight.T - decoder.bias).square().sum(1)
    residual = residual + (q.variance * decoder.weight.square().sum(0)).sum(1)
    distortion = 0.5 * residual / 0.7 + 2.5 * math.log(2 * math.pi * 0.7)
    rate = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
    closed = (distortion + 1.7 * rate).mean()
    torch.testing.assert_close(loss, closed, rtol=1e-12, atol=0)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(closed, parameters)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, math.exp(-1)), (-1.2, 0.05)])
def test_the_gap_is_the_divergence_from_the_posterior(mean: float, variance: float) -> None:
    trace = on_grid(constant_posterior(model_with(), [mean], [variance]), lb.Batch(X))
    q = MultivariateNormal(f64([mean]), f64([[variance]]))
    gap = marginal(W, B, S2).log_prob(X) - trace.mean(trace.log_w)
    torch.testing.assert_close(gap, kl_divergence(q, exact_posterior(W, B, S2, X)), rtol=0, atol=1e-9)
    # the sampled and the closed-form rate have the same mean
    sampled = trace.mean(trace.latents[0].log_q - trace.latents[0].log_p)
    torch.testing.assert_close(sampled, kl_divergence(q, MultivariateNormal(f64([0.0]), f64([[1.0]]))).expand(3))


def test_the_weights_of_the_prior_have_the_golden_second_moment() -> None:
    """K (log p - L_K) tends to (E[w^2]/E[w]^2 - 1)/2 (Nowozin 2018): here 0.71357."""
    trace = on_grid(constant_posterior(model_with(), [0.0], [1.0]), lb.Batch(X))
    torch.testing.assert_close(trace.log_w, trace.log_px)  # q is the prior
    log_mean = trace.log_mean_exp(trace.log_w)
    assert float(log_mean[0]) == pytest.approx(LOG_PX, abs=1e-10)
    moment = torch.exp(trace.log_mean_exp(2 * trace.log_w) - 2 * log_mean)
    assert float(moment[0]) == pytest.approx(SECOND_MOMENT, rel=1e-10)
    assert float(moment[0] - 1) / 2 == pytest.approx(0.7135732712480138, abs=1e-9)


def test_draws_from_the_prior_estimate_log_p_with_the_golden_bias() -> None:
    """40,000 estimates of 64 draws each; false-fail rate 4e-8 for each of the two z-scores."""
    model = constant_posterior(model_with(), [0.0], [1.0])
    exact = expected_bound(on_grid(model, lb.Batch(X[:1])), 64)
    assert 64 * (LOG_PX - exact) == pytest.approx(0.7135732712480138, rel=0.03)  # terms of order 1/K are left out
    constant_posterior(model, [0.5], [0.4])  # from_prior does not read q
    trace = model(lb.Batch(X[:1].expand(40_000, 2)), 64, from_prior)
    assert not trace.latents[0].drawn
    torch.testing.assert_close(trace.log_w, trace.log_px)
    estimates = trace.log_mean_exp(trace.log_w)
    assert abs(z_score(estimates.exp(), math.exp(LOG_PX))) < 5.5  # the mean weight is unbiased
    assert abs(z_score(estimates, exact)) < 5.5
    assert abs(z_score(estimates, LOG_PX)) > 8  # the bias is seen


@pytest.mark.parametrize(
    ("mean", "variance", "plain"), [(POSTERIOR_MEAN, POSTERIOR_VARIANCE, 0.196), (0.5, math.exp(-1), 0.0786)]
)
def test_the_posterior_needs_weights_to_estimate_p(mean: float, variance: float, plain: float) -> None:
    """The plain mean of p(x|z) over q is not p(x) = 0.0807, for the exact posterior least of all."""
    trace = on_grid(constant_posterior(model_with(), [mean], [variance]), lb.Batch(X[:1]))
    assert float(trace.log_mean_exp(trace.log_px).exp()) == pytest.approx(plain, abs=5e-4)
    assert float(trace.log_mean_exp(trace.log_w)) == pytest.approx(LOG_PX, abs=1e-9)


def test_renyi_half_bound_of_the_weights() -> None:
    """2 log E_q[w^(1/2)] (Li & Turner 2016, alpha = 1/2) = log p - 2 D_Bhattacharyya(q, posterior)."""
    trace = on_grid(constant_posterior(model_with(), [0.5], [math.exp(-1)]), lb.Batch(X[:1]))
    assert float(2 * trace.log_mean_exp(0.5 * trace.log_w)) == pytest.approx(-3.1979828723463, abs=1e-9)


def test_a_diagonal_posterior_is_exact_only_for_orthogonal_columns(monkeypatch) -> None:
    rows, bias = torch.randn(7, 3, dtype=torch.float64), f64([0.4, -1.0, 0.2])
    orthogonal = f64([[1.5, -0.4], [1.0, 0.6], [0.0, 0.9]])
    slanted = orthogonal + f64([[0.0, 0.8], [0.0, 0.3], [0.0, 0.0]])
    trace = with_exact_posterior(orthogonal, bias, 0.3)(lb.Batch(rows), 5)
    torch.testing.assert_close(trace.log_w, marginal(orthogonal, bias, 0.3).log_prob(rows).expand(5, 7))
    inject(monkeypatch, cubature(2))
    trace = with_exact_posterior(slanted, bias, 0.3)(lb.Batch(rows), 4)
    q, p = trace.latents[0].q, exact_posterior(slanted, bias, 0.3, rows)
    divergence = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), p)
    assert float(divergence[0]) > 0.1
    gap = marginal(slanted, bias, 0.3).log_prob(rows) - trace.terms()["elbo"]
    torch.testing.assert_close(gap, divergence, rtol=0, atol=1e-9)


def test_samples_of_the_model_have_the_marginal_distribution() -> None:
    """Means and covariances of 40,000 draws; 5 z-scores below 5.5: false-fail rate 2e-7."""
    draws = constant_posterior(model_with(), [3.0], [0.1]).sample(40_000, show="draw", seed=4) - B
    covariance = W @ W.T + S2 * torch.eye(2, dtype=torch.float64)
    for i in range(2):
        assert abs(z_score(draws[:, i], 0.0)) < 5.5
        for j in range(i, 2):
            assert abs(z_score(draws[:, i] * draws[:, j], covariance[i, j])) < 5.5
