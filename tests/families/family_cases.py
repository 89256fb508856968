"""The families with a density, each with what the common tests must know of it: one more family is one more row."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lowerbound.core.model import Family
from lowerbound.families import Bernoulli, FixedNormal, Normal, PerDimensionNormal, SharedNormal

Event = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One family with a density: how to make it for an event shape, and its smallest standard deviation."""

    name: str
    make: Callable[[Event], Family]
    floor: float = 0.0

    def family(self, event: Event) -> Family:
        """Return the family in float64, its own parameters moved away from where they start."""
        family = self.make(event).double()
        with torch.no_grad():
            for parameter in family.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
        return family

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
]
NO_DENSITY = {"GreyBernoulli", "Delta"}  # tested in test_no_density.py
OF_COLUMNS = {"Columns"}  # made of columns, not of one event shape: tested in test_columns.py

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def values_of(family: Family, *shape: int) -> Tensor:
    """Return random values inside the support, `[*shape, *event]`."""
    x = torch.randn(*shape, *family.event_shape, dtype=torch.float64)
    return (x > 0).double() if family.support == "binary" else x
