"""A small VAE with parameters of its own for each row: one backward pass gives as many independent gradients as rows.

All rows hold the same datum and the same parameter values, so row b of a parameter's gradient is one draw of the
estimator.
"""

import math

import torch
from torch import Tensor, nn

import lowerbound as lb
from lowerbound.core.distribution import Distribution
from lowerbound.core.model import Conditional, Encoder, Group, Network
from lowerbound.core.objective import Objective, first_step
from lowerbound.families import FixedNormal, Normal
from lowerbound.families.normal import DiagonalNormal
from lowerbound.groups import Flat
from lowerbound.priors import StandardNormal

X, LATENT, PSEUDO, SCALE = 3, 2, 4, 0.6
DATUM = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)


def values(*shape: int, seed: int, size: float = 0.5) -> Tensor:
    return size * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Rows(nn.Parameter):
    """The same values for each row, as one parameter `[B, ...]`."""

    def __new__(cls, value: Tensor, rows: int) -> "Rows":
        return super().__new__(cls, value.expand(rows, *value.shape).clone())


class Linear(Network):
    """Row b of B is mapped by weight b; rows come as `[M B, in]`, b running fastest."""

    def __init__(self, weight: Tensor, bias: Tensor, out_shape: tuple[int, ...], rows: int) -> None:
        super().__init__()
        self.in_shape, self.out_shape = (weight.shape[1],), out_shape
        self.weight, self.bias = Rows(weight, rows), Rows(bias, rows)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        grouped = x.unflatten(0, (-1, len(self.weight)))
        out = torch.einsum("bij,mbj->mbi", self.weight, grouped) + self.bias
        return out.flatten(0, 1).unflatten(1, self.out_shape)


class Equally(Distribution):
    """The mixture of a distribution's first batch axis, in equal parts."""

    def __init__(self, parts: DiagonalNormal) -> None:
        self.parts = parts
        super().__init__(parts.batch_shape[1:], parts.event_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.parts.log_prob(value[:, None]).logsumexp(1) - math.log(len(self.parts.loc))


class Pseudo(nn.Module):
    """The mixture of the posteriors of learned pseudo-inputs; `lends=False` stops its gradient at the encoder."""

    support, borrows = "real", True

    def __init__(self, rows: int, *, lends: bool = True) -> None:
        super().__init__()
        self.inputs, self.lends = Rows(values(PSEUDO, X, seed=5, size=1.0), rows), lends

    def forward(self, y: Tensor | None, infer) -> Distribution:
        q = infer(self.inputs.transpose(0, 1).flatten(0, 1))
        loc, scale = (part.unflatten(0, (PSEUDO, -1)) for part in (q.loc, q.scale))
        return Equally(DiagonalNormal(loc, scale, 1) if self.lends else DiagonalNormal(loc.detach(), scale.detach(), 1))


class Below(Group):
    """A second latent, whose prior and posterior share the map from the first."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.posterior_family = Normal((LATENT,))
        self.map = Rows(values(LATENT, LATENT, seed=6), rows)

    def prior(self, state, y, infer):
        return DiagonalNormal(torch.einsum("bij,kbj->kbi", self.map, state), torch.ones_like(self.map[0, 0]), 1)

    def posterior(self, state, feature, p):
        q = self.posterior_family(feature)
        return DiagonalNormal(0.5 * p.mean + q.loc, q.scale, 1)

    def merge(self, state, z):
        return torch.cat([state, z], -1)


def model(rows: int, prior: nn.Module | None = None, *, ladder: bool = False) -> lb.VAE:
    """Return a VAE of `rows` replicas: linear maps, q(z|x) some way off the posterior."""
    family = Normal((LATENT,))
    encoders = [
        Linear(values(2 * LATENT, X, seed=1 + 10 * i, size=0.2), values(2 * LATENT, seed=2), family.params, rows)
        for i in range(1 + ladder)
    ]
    groups = [Flat(family, prior or StandardNormal((LATENT,))), *([Below(rows)] if ladder else [])]
    wide = LATENT * (1 + ladder)
    decoder = Conditional(
        Linear(values(X, wide, seed=3, size=0.8), values(X, seed=4), (X,), rows), FixedNormal((X,), SCALE)
    )
    return lb.VAE(Encoder(encoders), groups, decoder).double()


def near_the_posterior(rows: int, shift: float = 0.0, widen: float = 0.0) -> lb.VAE:
    """Return a model whose q is the posterior, with its mean moved by `shift` and its log-variance by `widen`."""
    made = model(rows)
    decoder, encoder = made.decoder.network, made.encoder.networks[0]
    with torch.no_grad():  # orthogonal columns make the posterior factorise
        decoder.weight.copy_(torch.tensor([[1.0, 0.5], [0.5, -1.0], [0.0, 0.0]]).expand(rows, X, LATENT))
        weight, bias = decoder.weight[0], decoder.bias[0]
        precision = 1 + weight.square().sum(0) / SCALE**2
        gain = weight.T / SCALE**2 / precision[:, None]
        encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]).expand(rows, -1, -1))
        # the variance of `Normal` is floor^2 + exp(h)
        encoder.bias.copy_(torch.cat([shift - gain @ bias, (1 / precision - 1e-12).log() + widen]).expand(rows, -1))
    return made


def gradients(objective: Objective, model: lb.VAE) -> dict[str, Tensor]:
    """Return each parameter's gradients of minus the bound's estimate, `[B, numbers]`."""
    rows = len(next(model.parameters()))
    outcome = objective(model, lb.Batch(DATUM.expand(rows, X)), first_step())
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(rows * outcome.losses["model"], parameters, materialize_grads=True)
    return {name: gradient.flatten(1) for name, gradient in zip(names, found, strict=True)}


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Return for each parameter the largest |z| of the difference of means over its numbers."""
    return {
        name: float(((a.mean(0) - b.mean(0)) / ((a.var(0) / len(a) + b.var(0) / len(b)).sqrt() + 1e-300)).abs().max())
        for name, (a, b) in ((n, (one[n], other[n])) for n in one)
    }


def noise(found: dict[str, Tensor], within: str) -> float:
    """Return the total variance of the gradients of parameters whose name has `within`."""
    return sum(float(g.var(0).sum()) for name, g in found.items() if within in name)


def signal_to_noise(found: dict[str, Tensor], within: str) -> float:
    """Return |mean| / sd over all numbers together; the mean's own noise is taken off."""
    power = sum(float((g.mean(0).square() - g.var(0) / len(g)).sum()) for name, g in found.items() if within in name)
    return math.sqrt(max(power, 0.0) / noise(found, within))
