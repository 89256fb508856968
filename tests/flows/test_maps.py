"""Flows as maps: Jacobians by automatic differentiation, inverses, shapes, contexts, and what they start from."""

import pytest
import torch
from flow_cases import FLOWS, SIZES, C, make, moved
from torch.func import jacrev

from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.flows import (
    Affine,
    Chain,
    Gate,
    Inverted,
    PlanarFlow,
    RadialFlow,
    Reorder,
    Spline,
    autoregressive_flow,
    coupling_flow,
    prior_flow,
)
from lowerbound.posteriors import IAF, MAF, Planar, Radial, SplineFlow

K, B = 3, 4
every_flow = pytest.mark.parametrize("name", FLOWS)
every_size = pytest.mark.parametrize("size", SIZES)


def points(*shape, seed=9):
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_jacobian(function, x):
    return torch.linalg.slogdet(jacrev(function)(x).reshape(len(x), len(x))).logabsdet


@every_flow
@every_size
def test_the_log_determinant_is_that_of_the_jacobian(name, size):
    flow, contexts = make(name, size)
    for seed in range(4):
        context, x = contexts(), points(size, seed=seed)
        y, log_det = flow(x, context)
        assert float(log_det.detach()) != 0
        torch.testing.assert_close(log_det, log_jacobian(lambda v, c=context: flow(v, c)[0], x), rtol=0, atol=1e-9)
        assert float((y - x).detach().abs().max()) > 1e-2  # the identity would pass everything here


@every_flow
@every_size
def test_the_inverse_is_the_inverse(name, size):
    flow, contexts = make(name, size)
    context, x = contexts(B), points(K, B, size)
    y, log_det = flow(x, context)
    if not flow.invertible:
        with pytest.raises(Incompatible, match="no formula"):
            flow.inverse(y, context)
        return
    back, log_back = flow.inverse(y, context)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_back, -log_det, rtol=0, atol=1e-7)
    there, _ = flow(flow.inverse(x, context)[0], context)
    torch.testing.assert_close(there, x, rtol=0, atol=1e-7)


@every_flow
@every_size
def test_samples_and_rows_are_mapped_one_by_one(name, size):
    flow, contexts = make(name, size)
    context, x = contexts(B), points(K, B, size)
    for function in (flow, flow.inverse) if flow.invertible else (flow,):
        y, log_det = function(x, context)
        assert y.shape == (K, B, size)
        assert log_det.shape == (K, B)
        for k in range(K):
            for b in range(B):
                own = None if context is None else context[b]
                alone, alone_log_det = function(x[k, b], own)
                torch.testing.assert_close(y[k, b], alone)
                torch.testing.assert_close(log_det[k, b], alone_log_det)


@every_flow
@every_size
def test_every_value_of_the_context_matters(name, size):
    flow, contexts = make(name, size)
    if not flow.reads:
        return
    context = contexts(B).requires_grad_()
    y, log_det = flow(points(B, size), context)
    (gradient,) = torch.autograd.grad((y.square().sum() + log_det.sum()), context)
    assert bool((gradient != 0).any(0).all())
    if flow.invertible:
        x, log_det = flow.inverse(points(B, size), context)
        (gradient,) = torch.autograd.grad((x.square().sum() + log_det.sum()), context)
        assert bool((gradient != 0).any(0).all())


@pytest.mark.parametrize("elements", [Gate(), Affine(), Spline(4)], ids=lambda e: type(e).__name__)
def test_an_autoregressive_jacobian_is_triangular_and_full_below(elements):
    flow = moved(autoregressive_flow(5, elements, 1, (16,), C))
    context, x = points(C), points(5, seed=2).clamp(-2, 2)
    jacobian = jacrev(lambda v: flow(v, context)[0])(x).detach()
    assert float(jacobian.triu(1).abs().max()) == 0
    assert bool((jacobian.tril() != 0).sum() == 15)


def test_couplings_reach_every_dimension_from_every_other():
    flow = moved(coupling_flow(5, Affine(), 4, (16,)))
    assert bool((jacrev(lambda v: flow(v)[0])(points(5)) != 0).all())


def test_a_planar_map_is_invertible_whatever_its_parameters():
    """w^T u >= -1 (appendix A.1), so the derivative along w is positive: 1,000 contexts, some of them large."""
    flow = PlanarFlow(2, steps=1)
    context = 6 * points(1000, flow.reads)
    _, log_det = flow(points(1000, 2, seed=3), context)
    assert bool(log_det.isfinite().all())
    u, w = context[:, :2], context[:, 2:4]
    raw = 1 + (u * w).sum(1) * (1 - torch.tanh((w * points(1000, 2, seed=3)).sum(1) + context[:, 4]).square())
    assert bool((raw < 0).any())  # without the appendix some would fold space over


def test_parameters_of_zero_are_the_identity():
    x = points(B, 5)
    for flow in (PlanarFlow(5, 3), Chain([moved(Reorder((4, 3, 2, 1, 0)))] * 2), make("radial", 5)[0]):
        y, log_det = flow(x, torch.zeros(B, flow.reads, dtype=torch.float64))
        torch.testing.assert_close(y, x)
        torch.testing.assert_close(log_det, torch.zeros(B, dtype=torch.float64))
    for elements in (Affine(), Spline(6)):
        y, log_slope = elements(x, torch.zeros(B, 5, elements.count, dtype=torch.float64))
        torch.testing.assert_close(y, x)
        torch.testing.assert_close(log_slope, torch.zeros(B, 5, dtype=torch.float64))


def test_flows_start_near_the_identity():
    for flow in (prior_flow(5, kind, 4, (32,)) for kind in ("realnvp", "maf", "spline")):
        x = points(B, 5).float()
        torch.testing.assert_close(flow(x)[0].sort().values, x.sort().values, rtol=0, atol=0.1)


def test_gradients_agree_with_finite_differences():
    for name in FLOWS:
        flow, contexts = make(name, 2)
        x, context = points(2, 2).requires_grad_(), contexts(2)
        inputs = (x,) if context is None else (x, context.requires_grad_())
        assert torch.autograd.gradcheck(lambda *given, f=flow: f(*given), inputs)


def test_gradients_are_finite_at_the_centre_of_a_radial_map():
    flow, contexts = make("radial", 2)
    context = contexts(1)
    x = context[:, :2].clone().requires_grad_()
    for function in (flow, flow.inverse):
        y, log_det = function(x, context)
        (gradient,) = torch.autograd.grad(y.sum() + log_det.sum(), x)
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: IAF((3,), steps=0), "number of steps"),
        (lambda: IAF((3,), hidden=()), "no hidden layer"),
        (lambda: IAF((3,), hidden=(0,)), "hidden sizes"),
        (lambda: IAF((0,)), "an event"),
        (lambda: IAF((3,), context=0), "context"),
        (lambda: MAF((3,), context=-1), "context"),
        (lambda: Planar((3,), steps=-1), "number of steps"),
        (lambda: Radial((3,), steps=0), "number of steps"),
        (lambda: SplineFlow((3,), bins=1), "1 bins"),
        (lambda: SplineFlow((3,), bound=0.0), "bound"),
    ],
)
def test_impossible_sizes_are_refused(make_it, says):
    with pytest.raises(UsageError, match=says):
        make_it()


def test_what_has_no_inverse_cannot_be_run_backwards():
    with pytest.raises(Incompatible, match="no formula"):
        Inverted(PlanarFlow(2))


@pytest.mark.parametrize(("flow", "context"), [
    (PlanarFlow(1, 1), [[-5.0, 5.0, 0.0]]),  # u, w, b: the steepest fold, at its crease
    (RadialFlow(1, 1), [[0.0, 0.0, -40.0]]),  # z0, alpha, beta: all of space drawn to z0, at z0
])  # fmt: skip
def test_maps_that_nearly_fold_keep_their_digits_in_single_precision(flow, context):
    """There the determinant is 1 - 1 in the papers' formulas."""
    given, x = torch.tensor(context).requires_grad_(), torch.zeros(1, 1)
    y, log_det = flow(x, given)
    (gradient,) = torch.autograd.grad(y.sum() + log_det.sum(), given)
    exact = flow(x.double(), given.double())[1]
    assert bool(gradient.isfinite().all())
    torch.testing.assert_close(log_det.double(), exact, rtol=1e-3, atol=0)
    assert float(log_det.detach()) < -20


@pytest.mark.parametrize("family", [IAF, MAF, SplineFlow, Planar, Radial])
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_draws_of_wild_parameters_have_finite_densities_and_gradients(family, size):
    made = family((3,))
    params = (size * points(100, *made.params).float()).requires_grad_()
    z, log_q = made(params).rsample_and_log_prob((4,))
    (gradient,) = torch.autograd.grad(z.sum() + log_q.sum(), params)
    assert bool(z.isfinite().all())
    assert bool(log_q.isfinite().all())
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(
    ("size", "hidden", "context"), [(5, (17, 11), 3), (1, (4,), 0), (6, (3,), 2), (4, (9, 8, 7), 0), (3, (1,), 2)]
)
def test_going_from_dimension_to_dimension_gives_what_a_whole_pass_for_each_would(size, hidden, context):
    """The inverse uses each weight once; here the network runs from the start for every dimension."""
    flow = moved(autoregressive_flow(size, Affine(), 1, hidden, context)).flows[0]
    given = points(B, context) if context else None
    y = points(K, B, size, seed=3)
    x, total = y[..., :0], 0.0
    for d in range(size):
        filled = torch.cat([x, torch.full((K, B, size - d), 99.0, dtype=y.dtype)], -1)  # later ones must not matter
        raw = flow._raw(filled, given)[..., d : d + 1, :]
        value, log_slope = flow.elements.inverse(y[..., d : d + 1], raw)
        x, total = torch.cat([x, value], -1), total + log_slope[..., 0]
    found, log_det = flow.inverse(y, given)
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(log_det, total)
