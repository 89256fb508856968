"""Priors with networks of their own: flow matching against exact flows, the two-stage bound against quadrature."""

import math

import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.priors import FlowMatching, TwoStage


def linear_flow(matrix, offset, **options):
    """A field v(z, t) = matrix z + offset in float64."""
    prior = FlowMatching((len(offset),), hidden=(), **options).double()
    layer = prior.field[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, : len(offset)] = matrix
        layer.bias.copy_(offset)
    return prior


def test_a_linear_field_carries_the_normal_to_the_normal_of_its_matrix_exponential():
    """z(1) = e^A z(0) + (integral of e^{A(1-s)}) b, so p(z) is N(m, e^A e^A^T); scaled codes add their volume."""
    a = torch.tensor([[0.3, -0.8, 0.1], [0.5, -0.4, 0.0], [0.2, 0.1, 0.6]], dtype=torch.float64)
    b = torch.tensor([0.7, -1.0, 0.4], dtype=torch.float64)
    prior = linear_flow(a, b, steps=40)
    with torch.no_grad():
        prior.scaling.loc.copy_(torch.tensor([1.0, 2.0, -3.0]))
        prior.scaling.scale.copy_(torch.tensor([0.5, 2.0, 3.0]))
    block = torch.zeros(4, 4, dtype=torch.float64)
    block[:3, :3], block[:3, 3] = a, b
    grown = torch.linalg.matrix_exp(block)
    matrix = prior.scaling.scale[:, None] * grown[:3, :3]
    mean = prior.scaling.loc + prior.scaling.scale * grown[:3, 3]
    exact = torch.distributions.MultivariateNormal(mean, matrix @ matrix.T)
    p, z = prior(None, None), exact.sample((2, 5))
    assert p.log_prob(z).shape == (2, 5)
    torch.testing.assert_close(p.log_prob(z), exact.log_prob(z), rtol=1e-6, atol=1e-6)
    torch.manual_seed(4)
    drawn = p.sample((6,))
    torch.manual_seed(4)
    noise = torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(drawn, mean + noise @ matrix.T, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(p.mean, mean, atol=0.5, rtol=0)  # 4,096 draws, more than 6 standard errors
    torch.testing.assert_close(p.variance, exact.variance, rtol=0.15, atol=0)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_density_of_any_field_integrates_to_one(dims):
    torch.manual_seed(2)
    prior = FlowMatching((dims,), hidden=(9,), steps=30).double()
    with torch.no_grad():
        prior.field[-1].weight.mul_(4)
    axis = torch.linspace(-9, 9, 1201 if dims == 1 else 121, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dims).reshape(-1, dims)
    with torch.no_grad():
        mass = prior(None, None).log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** dims
    assert float(mass) == pytest.approx(1, abs=1e-4)


def test_rows_computed_in_pieces_are_those_computed_at_once(monkeypatch):
    prior = FlowMatching((3,), hidden=(5,), steps=3).double()
    z = torch.randn(7, 3).double()
    whole = prior(None, None).log_prob(z)
    monkeypatch.setattr("lowerbound.priors.flow_matching._AT_ONCE", 2 * 3 * 5)
    torch.testing.assert_close(prior(None, None).log_prob(z), whole)


def test_the_divergence_has_a_gradient():
    prior = FlowMatching((2,), hidden=(4,), steps=2).double()
    z = torch.randn(3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: prior(None, None).log_prob(z), (z,))
    assert torch.autograd.grad(prior(None, None).log_prob(z).sum(), prior.field[0].weight)[0].isfinite().all()


def test_regression_finds_the_field_that_turns_noise_into_a_normal():
    """Codes of N(3, 2^2): the fitted density must come within 0.02 nats of the true one, the start is far from it."""
    torch.manual_seed(5)
    prior, z = FlowMatching((1,), hidden=(32,), steps=10), 3 + 2 * torch.randn(4000, 1)
    held = 3 + 2 * torch.randn(4000, 1)
    exact = torch.distributions.Normal(3.0, 2.0).log_prob(held).mean()
    with torch.no_grad():
        assert float(exact - prior(None, None).log_prob(held).mean()) > 1
        prior.start_from_codes(z)
    optimizer = torch.optim.Adam(prior.parameters(), 5e-3)
    for _ in range(400):
        optimizer.zero_grad()
        prior.fit_loss(z[torch.randint(4000, (256,))]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert float(exact - prior(None, None).log_prob(held).mean()) < 0.02


def exact_two_stage(prior, z):
    """log p(z) of one dimension by the trapezoid rule over u, exact to rounding."""
    u = torch.linspace(-10, 10, 4001, dtype=torch.float64)[:, None]
    log_pu = torch.distributions.Normal(0.0, 1.0).log_prob(u[:, 0])
    inner = (z - prior.scaling.loc) / prior.scaling.scale
    log_pz = prior.likelihood(u).log_prob(inner[:, None])  # [N, nodes]
    return (log_pz + log_pu).logsumexp(1) + math.log(20 / 4000) - prior.scaling.scale.log().sum()


def test_the_two_stage_estimate_lies_below_log_p_and_rises_to_it():
    """Means of 4,000 estimates; K = 1 is the ELBO. 6 standard errors: false-fail rate 1e-9."""
    torch.manual_seed(3)
    prior = TwoStage((1,), hidden=(6,), num_samples=1).double()
    with torch.no_grad():
        prior.start_from_codes(torch.tensor([[1.0], [5.0]], dtype=torch.float64))
        prior.likelihood_family.log_variance.fill_(-1.0)
        z = torch.tensor([[2.0], [3.5], [6.0]], dtype=torch.float64)
        exact, gaps = exact_two_stage(prior, z), []
        for k in (1, 16, 256):
            prior.num_samples = k
            estimates = prior(None, None).log_prob(z.expand(4000, 3, 1))
            error = estimates.std(0) / math.sqrt(4000)
            assert bool((estimates.mean(0) < exact + 6 * error).all())
            gaps.append(float((exact - estimates.mean(0)).max()))
        ratio = (prior(None, None).log_prob(z.expand(4000, 3, 1)) - exact).exp()
        assert bool(((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / math.sqrt(4000)).all())  # unbiased for p(z) itself
        assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]
        assert gaps[0] > 0.05
    assert prior.bound


def test_minus_the_loss_of_two_stages_is_its_estimate_of_one_sample():
    prior, z = TwoStage((2, 2), latent_dim=3, hidden=(5, 4), num_samples=1), torch.randn(6, 2, 2)
    torch.manual_seed(1)
    loss = prior.fit_loss(z)
    torch.manual_seed(1)
    torch.testing.assert_close(-loss, prior(None, None).log_prob(z))
    assert prior(None, None).sample((7,)).shape == (7, 2, 2)
    assert prior(None, None).mean.shape == prior(None, None).variance.shape == (2, 2)


def test_draws_of_two_stages_have_its_density():
    """E[z] and E[z^2] of 40,000 draws against quadrature, 6 standard errors: false-fail rate 1e-9."""
    torch.manual_seed(8)
    prior = TwoStage((1,), hidden=(6,)).double()
    with torch.no_grad():
        prior.start_from_codes(torch.tensor([[1.0], [5.0]], dtype=torch.float64))
        axis = torch.linspace(-20, 26, 2001, dtype=torch.float64)[:, None]
        mass = exact_two_stage(prior, axis).exp() * (axis[1] - axis[0])
        assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
        draws = prior(None, None).sample((40_000,))
        for power in (1, 2):
            error = float(draws.pow(power).std()) / 200
            assert abs(float(draws.pow(power).mean() - (mass * axis[:, 0].pow(power)).sum())) < 6 * error


@pytest.mark.parametrize(
    "make",
    [
        lambda: FlowMatching((2,), steps=0),
        lambda: FlowMatching((2,), sigma=1.0),
        lambda: FlowMatching((2,), hidden=(0,)),
        lambda: TwoStage((2,), latent_dim=0),
        lambda: TwoStage((2,), num_samples=0),
    ],
)
def test_impossible_numbers_are_refused(make):
    with pytest.raises(UsageError):
        make()
