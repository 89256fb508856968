"""Families: from a tensor of parameters to a distribution. Each declares `params` and `support`."""

from .bernoulli import Bernoulli, GreyBernoulli
from .columns import Columns
from .delta import Delta
from .normal import FixedNormal, Normal, PerDimensionNormal, SharedNormal

__all__ = [
    "Bernoulli", "Columns", "Delta", "FixedNormal", "GreyBernoulli", "Normal", "PerDimensionNormal", "SharedNormal",
]  # fmt: skip
