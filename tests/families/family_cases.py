"""The families with a density, each with what the common tests must know of it: one more family is one more row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from lowerbound.core.distribution import Distribution
from lowerbound.core.model import Family
from lowerbound.families import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    FixedNormal,
    FullNormal,
    Laplace,
    LogisticMixture,
    LogNormal,
    LowRankNormal,
    NegativeBinomial,
    Normal,
    OneHot,
    OptimalNormal,
    PerDimensionNormal,
    Poisson,
    RelaxedBernoulli,
    RelaxedCategorical,
    SharedNormal,
    StudentT,
    VonMisesFisher,
    WrappedNormal,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)

Event = tuple[int, ...]
LEVELS = 5


@dataclass(frozen=True)
class Case:
    """One family with a density, and what the common tests must know of it.

    Args:
        name: what to call it.
        make: from an event shape to the family; families of levels get `LEVELS`.
        floor: its smallest standard deviation.
        joint: True if the cells of an event depend on each other: such an event has one axis, and nothing is masked.
        moments: False if `mean` and `variance` are those of something else, such as a limit.
        smooth: False if a draw at held noise is no smooth function of the parameters (rejection sampling).
        free: False if the start has the data's mean, but a variance of its own.
        edge: how near to 0 and 1 the start comes to constant data.
    """

    name: str
    make: Callable[[Event], Family]
    floor: float = 0.0
    joint: bool = False
    moments: bool = True
    smooth: bool = True
    free: bool = True
    edge: float = 2e-4

    def family(self, event: Event) -> Family:
        """Return the family in float64, its own parameters moved away from where they start."""
        family = self.make(self.event(event)).double()
        with torch.no_grad():
            for parameter in family.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
        return family

    def event(self, event: Event) -> Event:
        """Return an event shape this family can have: one axis where cells depend on each other."""
        return (max(math.prod(event), 2),) if self.joint else event

    def draw(self, event: Event, *batch: int) -> tuple[Family, Tensor]:
        """Return the family and random parameters for it, `[*batch, *params]`."""
        family = self.family(event)
        return family, torch.randn(*batch, *family.params, dtype=torch.float64)


CASES = [
    Case("Normal", Normal, floor=1e-6),
    Case("Normal, softplus", lambda event: Normal(event, head="softplus", floor=1e-4), floor=1e-4),
    Case("FixedNormal", lambda event: FixedNormal(event, scale=0.7), floor=0.7),
    Case("SharedNormal", SharedNormal, floor=1e-3),
    Case("PerDimensionNormal", lambda event: PerDimensionNormal(event, floor=1e-2), floor=1e-2),
    Case("Bernoulli", Bernoulli),
    Case("Laplace", Laplace, floor=1e-6),
    Case("Laplace, shared", lambda event: Laplace(event, scale="shared", floor=1e-2), floor=1e-2),
    Case("StudentT", lambda event: StudentT(event, least_df=4.0), floor=1e-3),
    Case("StudentT, shared", lambda event: StudentT(event, spread="shared", least_df=4.0), floor=1e-3),
    Case("LogNormal", LogNormal, edge=1e-3),
    Case("Beta", lambda event: Beta(event, floor=1.0), smooth=False, free=False, edge=0.02),
    Case("ContinuousBernoulli", ContinuousBernoulli, free=False, edge=0.0101),
    Case("Categorical", lambda event: Categorical(event, levels=LEVELS), free=False),
    Case("Poisson", Poisson, free=False),
    Case("NegativeBinomial", NegativeBinomial, free=False),
    Case("NegativeBinomial, network", lambda event: NegativeBinomial(event, dispersion="network"), free=False),
    Case("ZeroInflatedPoisson", ZeroInflatedPoisson, free=False),
    Case("ZeroInflatedNegativeBinomial", ZeroInflatedNegativeBinomial, free=False),
    Case("ZINB, network", lambda event: ZeroInflatedNegativeBinomial(event, dispersion="network"), free=False),
    Case("DiscretizedLogistic", lambda event: DiscretizedLogistic(event, levels=LEVELS), free=False),
    Case("DiscretizedLogistic, network", lambda event: DiscretizedLogistic(event, LEVELS, "network"), free=False),
    Case("LogisticMixture", lambda event: LogisticMixture(event, components=3, levels=LEVELS), free=False),
    Case("OptimalNormal, shared", OptimalNormal, floor=1e-3),
    Case("FullNormal", FullNormal, floor=1e-4, joint=True),
    Case("LowRankNormal", LowRankNormal, floor=1e-3, joint=True),
    Case("OneHot", OneHot, joint=True),
    Case("RelaxedCategorical", RelaxedCategorical, joint=True, moments=False),
    Case("RelaxedBernoulli", RelaxedBernoulli, moments=False, free=False),
    Case("VonMisesFisher", VonMisesFisher, joint=True, smooth=False),
    Case("WrappedNormal", WrappedNormal, joint=True, moments=False),
]
# Families that the common tests do not suit, and where they are tested instead.
ELSEWHERE = {
    "GreyBernoulli": "test_no_density.py",
    "Delta": "test_no_density.py",
    "Dequantized": "test_dequantized.py",  # a draw in a bound on log p
    "Symbols": "test_symbols.py",  # as long as a sequence happens to be
    "AutoregressivePixels": "test_pixels.py",  # around another family
    "Product": "test_hyperbolic.py",  # made of families, not of one event shape
    "Columns": "test_columns.py",  # made of columns, not of one event shape
    "Modalities": "test_modalities.py",  # made of other families
}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
cellwise = pytest.mark.parametrize("case", [c for c in CASES if not c.joint], ids=lambda case: case.name)


def values_of(family: Family, *shape: int) -> Tensor:
    """Return random values inside the support, `[*shape, *event]`."""
    x = torch.randn(*shape, *family.event_shape, dtype=torch.float64)
    made: dict[str, Callable[[], Tensor]] = {
        "binary": lambda: (x > 0).double(),
        "levels": lambda: ((x.sigmoid() * LEVELS).floor().clamp_max(LEVELS - 1)) / (LEVELS - 1),
        "inner": x.sigmoid,
        "unit": x.sigmoid,
        "count": lambda: (2 * x).exp().floor(),
        "positive": x.exp,
        "sphere": lambda: x / x.norm(dim=-1, keepdim=True),
        "onehot": lambda: torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).double(),
        "simplex": lambda: x.softmax(-1),
    }
    return made.get(family.support, lambda: x)()


def inside(family: Family, x: Tensor) -> bool:
    """Say whether all of x `[..., *event]` lies in the support."""
    checks: dict[str, Callable[[], Tensor]] = {
        "binary": lambda: (x == 0) | (x == 1),
        "levels": lambda: ((x * (LEVELS - 1)) == (x * (LEVELS - 1)).round()) & (x >= 0) & (x <= 1),
        "inner": lambda: (x > 0) & (x < 1),
        "unit": lambda: (x >= 0) & (x <= 1),
        "count": lambda: (x == x.round()) & (x >= 0),
        "positive": lambda: x > 0,
        "sphere": lambda: (x.norm(dim=-1) - 1).abs() < 1e-6,
        "onehot": lambda: ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1),
        "simplex": lambda: (x > 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6),
    }
    return bool(checks.get(family.support, x.isfinite)().all())


def every_value(family: Family, px: Distribution) -> Tensor:
    """Return all values of one discrete cell `[n]`; of counts, all but a share that 100 standard deviations bound."""
    if family.support == "count":
        return torch.arange(float(px.mean.max() + 100 * (px.stddev.max() + 1)), dtype=torch.float64)
    return torch.linspace(0, 1, 2 if family.support == "binary" else LEVELS, dtype=torch.float64)


def outcomes_of(family: Family, px: Distribution) -> Tensor:
    """Return all outcomes of a discrete event `[n, *event]`, of one axis; of counts, all that matter."""
    size = px.event_shape[0]
    if family.support == "onehot":
        return torch.eye(size, dtype=torch.float64)
    return torch.tensor(list(product(every_value(family, px).tolist(), repeat=size)), dtype=torch.float64)


@dataclass(frozen=True)
class Line:
    """A map from the real line into the support of one continuous cell, and the range of t that matters."""

    to_x: Callable[[Tensor], Tensor]
    from_x: Callable[[Tensor], Tensor]
    log_slope: Callable[[Tensor], Tensor]
    low: float
    high: float

    def log_density(self, px: Distribution, t: Tensor) -> Tensor:
        """Return the log-density of t `[n, 1]`, `[n]`."""
        return px.log_prob(self.to_x(t)) + self.log_slope(t).sum(-1)


def line_of(family: Family, px: Distribution) -> Line:
    """Return the line of a family of one continuous cell: logits, logs, or the values themselves."""

    def same(t: Tensor) -> Tensor:
        return t

    if family.support == "inner":
        return Line(torch.sigmoid, torch.logit, lambda t: -t.abs() - 2 * torch.log1p(torch.exp(-t.abs())), -30, 30)
    if family.support == "positive":
        middle = float(px.mean.log())
        return Line(torch.exp, torch.log, same, middle - 30, middle + 30)
    middle, spread = float(px.mean), float(px.stddev)
    low, high = (0.0, 1.0) if family.support == "unit" else (middle - 9 * spread, middle + 9 * spread)
    return Line(same, same, torch.zeros_like, low, high)
