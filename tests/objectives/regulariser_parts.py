"""Small models in double precision, and passes made by hand, for the tests of the regularisers."""

import torch
from torch import Tensor

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.noise import reseed
from lowerbound.core.objective import Objective, Outcome
from lowerbound.core.spec import DataSpec
from lowerbound.core.types import Batch, Latent, Trace
from lowerbound.families import FixedNormal, Normal
from lowerbound.families.normal import DiagonalNormal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

D, L, B, CLASSES, SIZE = 5, 3, 7, 4, 50
SPEC = DataSpec("toy", (D,), "table", "real", SIZE, classes=tuple("abcd"))


def model(groups: int = 1, latent: int = L, seed: int = 1) -> lb.VAE:
    """Return a VAE of real rows in double precision; of several groups the decoder reads the last."""
    torch.manual_seed(seed)
    q = [Normal((latent,)) for _ in range(groups)]
    px = FixedNormal((D,), 0.7)
    encoder = Encoder([MLP((D,), family.params, (9,), "tanh") for family in q])
    decoder = Conditional(MLP((latent,), px.params, (6,), "tanh"), px)
    made = lb.VAE(encoder, [Flat(family, StandardNormal((latent,))) for family in q], decoder, SPEC)
    return made.double()


def batch(rows: int = B, *, weighted: bool = False) -> Batch:
    torch.manual_seed(2)
    x, weight = torch.randn(rows, D, dtype=torch.float64), torch.rand(rows, dtype=torch.float64)
    y = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(rows) % CLASSES]
    return Batch(x, y=y, weight=weight / weight.mean() if weighted else None)


def outcome(objective: Objective, of: lb.VAE, given: Batch, step: float = 0.0) -> Outcome:
    """Return the outcome with the noise of one fixed seed."""
    reseed(5, 0)
    return objective.double()(of, given, torch.tensor(step))


def trace(loc: Tensor, scale: Tensor, z: Tensor, log_px: Tensor | None = None) -> Trace:
    """Return a pass with posteriors N(loc, scale^2) `[B, D]`, codes z `[K, B, D]` and a prior N(0, I)."""
    q = DiagonalNormal(loc, scale, 1)
    p = DiagonalNormal(torch.zeros_like(loc[0]), torch.ones_like(loc[0]), 1)
    latent = Latent(z, q, p, q.log_prob(z), p.log_prob(z), drawn=True)
    zero = torch.zeros_like(latent.log_q)
    return Trace((latent,), p, zero if log_px is None else log_px, zero - torch.tensor(float(len(z))).log())


def gradients(loss: Tensor, of: lb.VAE) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(of.parameters()), retain_graph=True))
