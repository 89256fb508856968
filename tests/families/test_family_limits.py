"""All families at their limits: masked cells, extreme parameters, half precision, where they start."""

import itertools
import math

import pytest
import torch
from family_cases import Case, cellwise, every_case, values_of

from lowerbound.families import Bernoulli, Normal


@cellwise
@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, 1e30, 0.37])
def test_masked_cells_count_nothing_whatever_they_hold(case: Case, hidden: float) -> None:
    family, params = case.draw((2, 3), 4, 5)
    params.requires_grad_()
    x, mask = values_of(family, 5), (torch.rand(5, 2, 3) < 0.5).double()
    mask[0], mask[1] = 0.0, 1.0
    holed = torch.where(mask.bool(), x, hidden)
    log_px = family(params).log_prob(holed, mask)
    assert bool((log_px[:, 0] == 0).all())  # nothing observed
    torch.testing.assert_close(log_px[:, 1], family(params).log_prob(x)[:, 1])  # all observed
    torch.testing.assert_close(log_px, family(params).log_prob(x, mask))
    (gradient,) = torch.autograd.grad(log_px.sum(), params)
    cells = gradient.reshape(4, 5, -1, 2, 3)  # the parameters of each cell
    assert bool((cells[~mask.bool()[None, :, None].expand_as(cells)] == 0).all())
    assert bool(torch.isfinite(gradient).all())


# Two values of each support, as far out as its float16 goes.
TWO_VALUES = {"inner": (0.25, 0.75), "positive": (0.25, 2.0), "count": (0.0, 300.0)}


@cellwise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [500.0, 1e4])
def test_extreme_parameters_keep_the_floor_and_stay_finite(case: Case, dtype: torch.dtype, size: float) -> None:
    """Combinations of -size and size, all where these are few; a variance of the family's own is at its floor."""
    family = case.make((1,)).to(dtype)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.fill_(-size)
    count = math.prod(family.params)
    every = list(itertools.product([-size, size], repeat=count))
    signs_of = every[:: max(len(every) // 32 - 1, 1)]  # of many parameters not all: the step is odd, so signs mix
    for signs, x in itertools.product(signs_of, TWO_VALUES.get(family.support, (0.0, 1.0))):
        params = torch.tensor(signs, dtype=dtype).reshape(family.params).requires_grad_()
        px = family(params)
        assert float(px.variance.detach()) >= case.floor**2 * (1 - 1e-5)
        log_px = px.log_prob(torch.tensor([x]))
        assert px.mean.dtype == log_px.dtype == torch.float32
        assert bool(torch.isfinite(log_px))
        if dtype != torch.float16:  # its largest number is 65504, and these gradients are larger
            (gradient,) = torch.autograd.grad(log_px, params)
            assert bool(torch.isfinite(gradient).all())


def test_extreme_logits_are_exact() -> None:
    """P(1) = sigmoid(500) is 1 in float32, and log P(0) is still -500."""
    logits = torch.tensor([[-500.0], [500.0], [30.0], [79.9], [80.1]])
    px = Bernoulli((1,))(logits)
    torch.testing.assert_close(px.log_prob(torch.ones(1)), torch.tensor([-500.0, 0.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(px.log_prob(torch.zeros(1)), torch.tensor([0.0, -500.0, -30.0, -79.9, -80.1]))
    exact = Bernoulli((1,))(torch.tensor([[-30.0]])).log_prob(torch.zeros(1)).item()
    assert exact == pytest.approx(-math.log1p(math.exp(-30)), rel=1e-5)  # not rounded to 0


def test_logits_lose_no_digits_on_the_sure_side() -> None:
    """log P(1) at logit l is -log(1 + exp(-l)), down to the rounding of l itself."""
    for logit in (5.0, 19.0, 21.0, 27.0):
        px = Bernoulli((1,))(torch.tensor([logit], dtype=torch.float64))
        found = px.log_prob(torch.ones(1, dtype=torch.float64)).item()
        assert found == pytest.approx(-math.log1p(math.exp(-logit)), rel=0, abs=1e-14)


@pytest.mark.parametrize("raw", [-30.0, 5.0, 19.0, 21.0, 30.0, 60.0])
def test_the_cap_of_the_log_variance_bends_and_does_not_cut(raw: float) -> None:
    """Above 20 the variance still grows, so a posterior that overshot is pulled back; below, h is log sigma^2."""
    params = torch.tensor([[0.0], [raw]], requires_grad=True)
    variance = Normal((1,))(params).variance
    (gradient,) = torch.autograd.grad(variance.sum(), params)
    assert float(gradient[1]) > 0
    assert float(variance.detach()) <= math.exp(20) * (1 + 1e-6)
    if raw < 15:
        assert float(variance.detach()) == pytest.approx(math.exp(raw) + 1e-12, rel=1e-3 if raw > 0 else 1e-5)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_are_scored_in_float32(case: Case, dtype: torch.dtype) -> None:
    family, params = case.draw((5,), 4)
    half, x = params.to(dtype), values_of(family, 4).float()
    family = family.to(dtype)
    found = family(half).log_prob(x)
    expected = family.float()(half.float()).log_prob(x)
    assert found.dtype == family(half).sample().dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@cellwise
def test_it_can_start_at_the_mean_and_variance_of_data(case: Case) -> None:
    """One variance for all dimensions takes their average; a set one, and that of bounded values, is not free."""
    family = case.family((2, 3))
    mean = torch.tensor([[0.2, 0.5, 0.9], [0.05, 0.7, 0.3]], dtype=torch.float64)
    variance = torch.tensor([[0.5, 0.02, 1.0], [3.0, 0.1, 0.4]], dtype=torch.float64)
    with torch.no_grad():
        params = family.bias_for(mean, variance)
        assert tuple(params.shape) == family.params
        px = family(params)
    torch.testing.assert_close(px.mean, mean)
    expected = {
        "SharedNormal": variance.mean().expand(2, 3),
        "FixedNormal": torch.full((2, 3), 0.49, dtype=torch.float64),
        "Bernoulli": mean * (1 - mean),
    }
    if case.name in expected or case.free:
        shared = variance.mean().expand(2, 3) if case.name.endswith("shared") else variance
        torch.testing.assert_close(px.variance, expected.get(case.name, shared), rtol=1e-6, atol=1e-9)


@cellwise
def test_it_can_start_at_constant_data(case: Case) -> None:
    """67 pixels of MNIST never change: their variance is 0, and the start must be finite there."""
    family = case.make((2,))
    with torch.no_grad():
        px = family(family.bias_for(torch.tensor([0.0, 1.0]), torch.zeros(2)))
        ends = {"inner": [0.01, 0.99], "positive": [0.01, 1.0]}.get(family.support, [0.0, 1.0])
        log_px = px.log_prob(torch.tensor(ends))
    assert bool(torch.isfinite(log_px))
    assert float(px.stddev.min()) >= case.floor * (1 - 1e-5)
    torch.testing.assert_close(px.mean, torch.tensor([0.0, 1.0]), rtol=0, atol=case.edge)


@every_case
@pytest.mark.parametrize("size", [5.0, 500.0, 1e4])
def test_its_own_draws_have_finite_densities_and_gradients_whatever_the_parameters(case: Case, size: float) -> None:
    """100 random sets of parameters of that size in float32: at draws, with and without their path, and the centre."""
    family = case.make(case.event((3,)))
    params = (size * torch.randn(100, *family.params)).requires_grad_()
    px = family(params)
    z = px.sample((4,))
    held = px.log_prob(z)
    moving, log_q = px.rsample_and_log_prob((4,))
    for values in (z, held, moving, log_q, px.centre_and_log_prob()[1] if family.support != "binary" else held):
        assert bool(values.isfinite().all())
    for log_p in (held, log_q):
        (gradient,) = torch.autograd.grad(log_p.sum(), params, retain_graph=True)
        assert bool(gradient.isfinite().all())
