"""The continuous Bernoulli against mpmath, over logits from 0 to 500: value, gradient, moments and draws."""

import mpmath
import pytest
import torch
from mpmath import mpf

from lowerbound.families import ContinuousBernoulli
from lowerbound.families.continuous_bernoulli import LogitContinuousBernoulli

mpmath.mp.dps = 60
SIZES = (1e-8, 1e-4, 0.01, 0.0199, 0.0201, 0.5, 0.999, 1.001, 3.0, 20.0, 88.0, 120.0, 500.0)
LOGITS = (0.0, *SIZES, *(-size for size in SIZES))
GOLDEN = {  # log C at lambda, from the formula log(2 artanh(1 - 2 lambda) / (1 - 2 lambda))
    1e-6: 2.625793842097495,
    0.01: 1.5451975455128972,
    0.1: 1.010338559490854,
    0.3: 0.7505877508804588,
    0.499: 0.6931485138955896,
    0.4999999: 0.6931471805599586,
    0.5: 0.6931471805599453,
    0.9: 1.010338559490854,
}


def exact_log_p(logit, x):
    return logit * x - mpmath.log(mpmath.expm1(logit) / logit) if logit else mpf(0)


def exact_mean(logit):
    return 1 / -mpmath.expm1(-logit) - 1 / logit if logit else mpf(1) / 2


def exact_variance(logit):
    return 1 / logit**2 - 1 / (4 * mpmath.sinh(logit / 2) ** 2) if logit else mpf(1) / 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", LOGITS)
def test_it_is_the_exact_density_with_its_gradient_and_moments(logit, dtype):
    eps = torch.finfo(dtype).eps
    for x in (0.0, 0.125, 0.5, 0.875, 1.0):
        given = torch.tensor([logit], dtype=dtype, requires_grad=True)
        at = mpf(given.item())
        px = ContinuousBernoulli((1,))(given)
        log_p = px.log_prob(torch.tensor([x], dtype=dtype))
        (gradient,) = torch.autograd.grad(log_p, given)
        assert log_p.item() == pytest.approx(float(exact_log_p(at, mpf(x))), rel=8 * eps, abs=8 * eps)
        assert gradient.item() == pytest.approx(float(mpf(x) - exact_mean(at)), rel=8 * eps, abs=8 * eps)
    assert px.mean.item() == pytest.approx(float(exact_mean(at)), rel=8 * eps)
    assert px.variance.item() == pytest.approx(float(exact_variance(at)), rel=40 * eps)
    (slope,) = torch.autograd.grad(px.mean, given)
    assert slope.item() == pytest.approx(float(exact_variance(at)), rel=100 * eps, abs=8 * eps)


@pytest.mark.parametrize(("share", "golden"), GOLDEN.items())
def test_the_constant_has_the_golden_values(share, golden):
    logit = torch.logit(torch.tensor(share, dtype=torch.float64))
    found = LogitContinuousBernoulli(logit, event_dims=0).log_normalizer
    assert float(found) == pytest.approx(golden, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", LOGITS)
def test_a_draw_is_the_exact_inverse_with_its_gradient(logit, dtype):
    """F(x) = u at 60 digits, and dx/dl = -(dF/dl) / p(x), from the implicit function theorem."""
    given = torch.tensor([logit], dtype=dtype, requires_grad=True)
    torch.manual_seed(4)
    us = torch.rand(9, 1, dtype=dtype).double()[:, 0].tolist()
    torch.manual_seed(4)
    draws, at = ContinuousBernoulli((1,))(given).rsample((9,)), mpf(given.item())
    eps = torch.finfo(dtype).eps
    for draw, u in zip(draws, us, strict=True):
        (gradient,) = torch.autograd.grad(draw, given, retain_graph=True)
        inside = 1 + mpf(u) * mpmath.expm1(at)
        exact = mpmath.log(inside) / at if at else mpf(u)
        slope = (mpf(u) * mpmath.exp(at) / inside - exact) / at if at else mpf(u) * (1 - mpf(u)) / 2
        assert draw.item() == pytest.approx(float(exact), rel=60 * eps, abs=8 * eps)
        assert gradient.item() == pytest.approx(
            float(slope), rel=1e-3 if dtype == torch.float32 else 1e-9, abs=100 * eps
        )


def test_extreme_draws_stay_inside_with_finite_gradients():
    logits = torch.tensor([-1e4, -500.0, -1e-30, 0.0, 1e-30, 500.0, 1e4], requires_grad=True)
    draws = ContinuousBernoulli((7,))(logits).rsample((20_000,))
    (gradient,) = torch.autograd.grad(draws.sum(), logits)
    assert bool(((draws >= 0) & (draws <= 1)).all())
    assert bool(gradient.isfinite().all())
