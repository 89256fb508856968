"""A ladder of two linear-Gaussian groups, made of public parts, whose posterior and log p(x) are known exactly."""

import math

import torch

from lowerbound.core.model import VAE, Conditional, Encoder, Group, Network
from lowerbound.families import FixedNormal, Normal
from lowerbound.families.normal import DiagonalNormal

TOP, BOTTOM, X = 2, 3, 5
# z1 ~ N(0, I); z2_d ~ N(A_d z1_d, S2_d^2), the third z2 without a parent; x_d ~ N(C_d z2_d, S^2), the last two alone.
A = torch.tensor([0.8, -1.3, 0.0], dtype=torch.float64)
S2 = torch.tensor([0.7, 0.4, 1.1], dtype=torch.float64)
C = torch.tensor([1.5, -0.6, 0.9, 0.0, 0.0], dtype=torch.float64)
S = 0.5


class Look(Network):
    """Gives x itself as the feature, and counts the rows it was called on."""

    def __init__(self):
        super().__init__()
        self.in_shape = self.out_shape = (X,)
        self.rows = 0

    def forward(self, x, y=None):
        self.check(x, y)
        self.rows += x.shape[0]
        return x


class Widen(Network):
    """The mean of x: C z2, with nothing for the last two values."""

    def __init__(self):
        super().__init__()
        self.in_shape, self.out_shape = (BOTTOM,), (X,)

    def forward(self, x, y=None):
        self.check(x, y)
        return torch.nn.functional.pad(x, (0, X - BOTTOM)) * C


class Top(Group):
    """z1 with prior N(0, I) and its exact posterior given x."""

    def __init__(self):
        super().__init__()
        self.posterior_family = Normal((TOP,))

    def prior(self, state, y, infer):
        return DiagonalNormal(torch.zeros(TOP, dtype=torch.float64), torch.ones(TOP, dtype=torch.float64), 1)

    def posterior(self, state, feature, p):
        slope, noise = (A * C[:BOTTOM])[:TOP], (C[:BOTTOM].square() * S2.square() + S**2)[:TOP]
        variance = 1 / (1 + slope.square() / noise)
        return DiagonalNormal(variance * slope * feature[:, :TOP] / noise, variance.sqrt(), 1)

    def merge(self, state, z):
        return z


class Bottom(Group):
    """z2 given z1, and its exact posterior given z1 and x."""

    def __init__(self):
        super().__init__()
        self.posterior_family = Normal((BOTTOM,))

    def prior(self, state, y, infer):
        return DiagonalNormal(torch.nn.functional.pad(state, (0, BOTTOM - TOP)) * A, S2, 1)

    def posterior(self, state, feature, p):
        c, precision = C[:BOTTOM], 1 / S2.square() + C[:BOTTOM].square() / S**2
        return DiagonalNormal((p.mean / S2.square() + c * feature[:, :BOTTOM] / S**2) / precision, precision.rsqrt(), 1)

    def merge(self, state, z):
        return z


def ladder() -> VAE:
    """Return the exact model."""
    return VAE(Encoder([Look(), Look()]), [Top(), Bottom()], Conditional(Widen(), FixedNormal((X,), S)))


def log_p(x):
    """Return the exact log p(x) in nats: every x_d is normal around 0."""
    variance = C.square() * torch.nn.functional.pad(A.square() + S2.square(), (0, X - BOTTOM)) + S**2
    return -0.5 * (x.square() / variance + variance.log() + math.log(2 * math.pi)).sum(-1)


def some_x(rows):
    """Return `rows` examples in float64 from a generator of their own."""
    return torch.randn(rows, X, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
