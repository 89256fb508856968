"""DReG in models of library parts: weights that p and q share, a log p(x, z) that is a draw, rows that differ.

Each gradient is that of a batch of 300; 60 of them for each estimator. A |z| > 7 (t with 118 degrees of freedom) has a
chance of 2e-10 for one number, and a model has at most 120 of them: a test fails by chance below 1e-7.
"""

import pytest
import torch
from torch import Tensor

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import Objective, first_step
from lowerbound.families import FixedNormal, Normal, SharedNormal
from lowerbound.groups import Conditioned, Flat
from lowerbound.networks import MLP
from lowerbound.objectives import IWAE, STL, DReG
from lowerbound.posteriors import MixtureOfExperts
from lowerbound.priors import ConditionalPrior, StandardNormal, TwoStage, VampPrior

X, LATENT, LOWER, REPEATS, LIMIT = 3, 2, 4, 60, 7.0


def with_pseudo_inputs() -> lb.VAE:
    family, likelihood = Normal((LATENT,)), SharedNormal((X,))
    encoder = MLP((X,), family.params, hidden=(5,), activation="tanh")
    decoder = Conditional(MLP((LATENT,), likelihood.params, hidden=(), activation="tanh"), likelihood)
    return lb.VAE(Encoder([encoder]), [Flat(family, VampPrior((LATENT,), (X,), pseudo_inputs=6))], decoder)


def with_two_groups() -> lb.VAE:
    top, low, likelihood = Normal((LATENT,)), Normal((LOWER,)), SharedNormal((X,))
    prior = ConditionalPrior(Conditional(MLP((LATENT,), low.params, hidden=()), low))
    inside = MLP((X + LATENT,), low.params, hidden=())
    groups = [Flat(top, StandardNormal((LATENT,))), Conditioned(inside, low, prior, keeps_state=True)]
    encoder = Encoder([MLP((X,), top.params, hidden=()), MLP((X,), (X,), hidden=())])
    return lb.VAE(encoder, groups, Conditional(MLP((LOWER + LATENT,), likelihood.params, hidden=()), likelihood))


def with_a_drawn_prior() -> lb.VAE:
    """log p(z) is estimated by one draw of u, which decides about the weights as much as z does."""
    family, likelihood = Normal((LATENT,)), FixedNormal((X,), 0.5)
    decoder = Conditional(MLP((LATENT,), likelihood.params, hidden=()), likelihood)
    group = Flat(family, TwoStage((LATENT,), hidden=(4,), num_samples=1))
    return lb.VAE(Encoder([MLP((X,), family.params, hidden=())]), [group], decoder)


def draws(objective: Objective, model: lb.VAE, batch: lb.Batch) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = [
        torch.autograd.grad(objective(model, batch, first_step()).losses["model"], parameters) for _ in range(REPEATS)
    ]
    return {
        name: torch.stack(each).reshape(REPEATS, -1).double()
        for name, each in zip(names, zip(*found, strict=True), strict=True)
    }


def scores(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    return {
        name: float(((a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / REPEATS).sqrt()).abs().max())
        for name, (a, b) in ((n, (one[n], other[n])) for n in one)
    }


@pytest.mark.parametrize("build", [with_pseudo_inputs, with_two_groups])
def test_every_parameter_has_the_mean_gradient_of_iwae(build) -> None:
    model = build()
    rows = torch.randn(6, X).repeat(50, 1)
    batch = lb.Batch(rows, weight=torch.tensor([0.5, 2.0, 1.0, 0.1, 1.4, 1.0]).repeat(50))
    plain, doubly, landing = (draws(objective, model, batch) for objective in (IWAE(4), DReG(4), STL(4)))
    found = scores(plain, doubly)
    assert max(found.values()) < LIMIT, found
    encoder = [name for name in plain if name.startswith("encoder")]
    assert max(scores(plain, landing)[n] for n in encoder) > 2 * LIMIT  # a negative control: STL is biased at K = 4


def test_the_noise_of_a_drawn_density_goes_with_its_own_weights() -> None:
    """Weights of one pass beside slopes of the other, of another u, miss by more than twice the limit."""
    torch.manual_seed(0)
    model, batch = with_a_drawn_prior(), lb.Batch(torch.randn(1, X).expand(4000, X))
    found = scores(*(draws(objective, model, batch) for objective in (IWAE(4), DReG(4))))
    assert max(found.values()) < LIMIT, found


class OfIndependentDraws(MixtureOfExperts):
    def forward(self, params: Tensor):
        return super().forward(params).independent()


def of_two_experts(family: MixtureOfExperts, start: Tensor) -> lb.VAE:
    likelihood, encoder = FixedNormal((X,), 1.0), MLP((X,), family.params, hidden=())
    with torch.no_grad():
        encoder.out.weight.zero_()
    decoder = MLP((1,), likelihood.params, hidden=())
    with torch.no_grad():
        encoder.start_at(start)
        decoder.out.weight.zero_()
    return lb.VAE(Encoder([encoder]), [Flat(family, StandardNormal((1,)))], Conditional(decoder, likelihood))


def test_draws_of_experts_that_are_shared_out_have_no_place_in_a_gradient_without_the_score() -> None:
    """N(-0.5, 0.5^2) and N(2.5, 1.2^2) against N(0, 1): with one draw of each, numbers missed by a fifth and more."""
    start, batch = torch.tensor([[-0.5, -1.386, 1.0], [2.5, 0.365, 1.0]]), lb.Batch(torch.ones(4000, X))
    kinds = ((OfIndependentDraws, IWAE), (MixtureOfExperts, DReG))
    plain, doubly = (
        draws(objective(2), of_two_experts(family((1,), 2), start), batch)["encoder.networks.0.out.bias"]
        for family, objective in kinds
    )
    kept = [0, 1, 3, 4]  # means and log variances; the others say which experts are there
    found = scores({"bias": plain[:, kept]}, {"bias": doubly[:, kept]})
    assert found["bias"] < LIMIT, found
