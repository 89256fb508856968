"""The Hamiltonian VAE where log p(x) is known: a linear model with normal noise."""

import math

import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO, Hamiltonian
from lowerbound.priors import StandardNormal
from lowerbound.train.loop import Loop

W = torch.tensor([[1.0, 0.3], [2.0, -0.5], [0.4, 1.1]], dtype=torch.float64)
S2, K = 0.5, 100_000
X = torch.tensor([[0.3, -0.7, 1.2]], dtype=torch.float64)
LOG_PX = torch.distributions.MultivariateNormal(
    torch.zeros(3, dtype=torch.float64), W @ W.T + S2 * torch.eye(3, dtype=torch.float64)
).log_prob(X)


def linear_model():
    """p(x|z) = N(Wz, S2 I), and q(z|x) = N((0.2, 0.4), diag(0.3, 0.6)) whatever x is."""
    z, px = Normal((2,)), FixedNormal((3,), math.sqrt(S2))
    encoder, decoder = MLP((3,), z.params, hidden=()), MLP((2,), (3,), hidden=())
    model = lb.VAE(Encoder([encoder]), [Flat(z, StandardNormal((2,)))], Conditional(decoder, px)).double()
    with torch.no_grad():
        encoder.out.weight.zero_()
        bias = torch.tensor([[0.2, 0.4], [math.log(0.3), math.log(0.6)]], dtype=torch.float64)
        encoder.out.bias.copy_(bias.flatten())
        decoder.out.weight.copy_(W)
        decoder.out.bias.zero_()
    return model


def outcome(num_steps, num_samples=K, **options):
    torch.manual_seed(5)
    objective = Hamiltonian(num_steps, num_samples, **options).double()
    with torch.no_grad():
        return objective(linear_model(), lb.Batch(X), first_step())


def z_score(values, expected):
    return float((values.mean() - expected) / (values.std() / len(values) ** 0.5))


@pytest.mark.parametrize("tempering", [True, False])
@pytest.mark.parametrize("num_steps", [1, 4])
def test_the_weights_of_moved_draws_average_to_p_x(num_steps, tempering):
    """Means of 100,000 weights within 5.5 standard errors (4e-8 each); a density that forgets a momentum is far off."""
    trace = outcome(num_steps, step_size=0.2, step_shape=(2,), start_heat=1.7, tempering=tempering).trace
    ratio = (trace.log_w[:, 0] - LOG_PX).exp()
    assert abs(z_score(ratio, 1.0)) < 5.5
    latent = trace.latents[0]
    assert not latent.drawn
    forgotten = trace.log_px + latent.log_p - latent.q.log_prob(latent.z)  # as if q had drawn z_T
    assert abs(z_score((forgotten[:, 0] - LOG_PX).exp(), 1.0)) > 10


def test_the_bound_is_below_log_p_and_rises_with_steps():
    bounds = [float(outcome(steps, step_size=0.1, start_heat=1.7).terms["elbo"]) for steps in (0, 2, 4, 8)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < float(LOG_PX)
    assert bounds[-1] - bounds[0] > 0.5
    assert float(outcome(2).terms["plain_elbo"]) == pytest.approx(bounds[0], abs=0.05)


def test_without_steps_it_is_the_elbo_by_sampling():
    terms = outcome(0).terms
    with torch.no_grad():
        torch.manual_seed(6)
        closed = ELBO(K)(linear_model(), lb.Batch(X), first_step()).terms
    assert float(terms["elbo"]) == pytest.approx(float(closed["elbo"]), abs=0.1)
    torch.testing.assert_close(terms["elbo"], terms["plain_elbo"])


def test_terms_add_up_and_one_tempered_step_is_the_papers():
    objective, model = Hamiltonian(1, 1, step_size=0.2, start_heat=1.7).double(), linear_model()
    torch.manual_seed(5)
    result = objective(model, lb.Batch(X), first_step())
    terms = {name: value.detach() for name, value in result.terms.items()}
    torch.testing.assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]))
    torch.manual_seed(5)
    scale = torch.tensor([0.3, 0.6], dtype=torch.float64).sqrt()
    eps = torch.randn(1, 1, 2, dtype=torch.float64)
    z0 = torch.tensor([0.2, 0.4], dtype=torch.float64) + scale * eps
    gamma = torch.randn(1, 1, 2, dtype=torch.float64)

    def force(z):
        return (X - z @ W.T) @ W / S2 - z

    heat, e = 1.7, 0.2
    half = gamma * heat + e / 2 * force(z0)
    z1 = z0 + e * half
    rho = (half + e / 2 * force(z1)) / heat
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    log_q0 = torch.distributions.Normal(z0.new_tensor([0.2, 0.4]), scale).log_prob(z0).sum()
    log_px = torch.distributions.Normal(z1 @ W.T, math.sqrt(S2)).log_prob(X).sum()
    expected = log_px + (normal.log_prob(z1) + normal.log_prob(rho) - normal.log_prob(gamma)).sum() - log_q0
    torch.testing.assert_close(terms["elbo"].squeeze(), expected)


def test_step_and_temperature_learn_also_what_the_gradient_of_a_gradient_says():
    """The gradient of the bound in every parameter is that of finite differences."""
    model, objective = linear_model(), Hamiltonian(2, 3, step_size=0.2, step_shape=(2,)).double()

    def bound():
        torch.manual_seed(7)
        return objective(model, lb.Batch(X), first_step()).losses["model"]

    parameters = objective.players(model)["model"]
    gradients = torch.autograd.grad(bound(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat, h = parameter.data.view(-1), 1e-6
        flat[-1] += h
        above = float(bound().detach())
        flat[-1] -= 2 * h
        below = float(bound().detach())
        flat[-1] += h
        assert float(gradient.view(-1)[-1]) == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-7)


def test_without_heat_each_draw_keeps_its_energy():
    """Over a few steps the error of leapfrog is of third order in their size: half the size, an eighth of the error."""

    def away(size, **options):
        found = outcome(4, 1000, step_size=size, **options).trace.log_w
        torch.manual_seed(5)
        with torch.no_grad():  # the same draws, not moved
            return float((found - linear_model()(lb.Batch(X), 1000).log_w).abs().mean())

    assert 6 < away(0.1, tempering=False) / away(0.05, tempering=False) < 10
    assert away(0.1, start_heat=1.7) / away(0.05, start_heat=1.7) < 3


def test_on_digits_the_moved_bound_starts_no_lower_than_that_of_q():
    """Means of 146 rows and 10 draws each; a start as hot as 1.7 is 0.18 nats lower, 10 standard errors."""
    data = lb.load_data("digits")
    recipe = lb.recipes.hamiltonian_vae(data.spec)
    loop = Loop(recipe, data, 2, torch.device("cpu"), "float32")
    rows = data.valid.matching(recipe.spec).batch(slice(None))
    differences = {}
    for heat in (1.05, 1.7):
        torch.manual_seed(1)
        objective = Hamiltonian(3, 10, step_shape=(20,), start_heat=heat)
        with torch.no_grad():
            terms = (loop.learner.objective if heat == 1.05 else objective)(
                loop.learner.model, rows, first_step()
            ).terms
        differences[heat] = float((terms["elbo"] - terms["plain_elbo"]).mean())
    assert differences[1.05] > -0.01
    assert differences[1.7] < -0.1


def test_what_cannot_be_moved_is_refused():
    digits = lb.load_data("digits")
    recipe = lb.recipes.joint_vae(digits.spec, hidden=(8,))
    with pytest.raises(Incompatible, match="gradient moves x latents"):
        recipe.replace(objective=Hamiltonian())
    with pytest.raises(ShapeError, match="shape of z"):
        lb.recipes.vae(digits.spec, hidden=(8,)).replace(objective=Hamiltonian(step_shape=(3,)))
    for wrong in ({"num_steps": -1}, {"step_size": 0.0}, {"step_size": 0.6}, {"num_samples": 0}, {"start_heat": 1.0}):
        with pytest.raises(UsageError):
            Hamiltonian(**wrong)
