"""Closed-form KL divergences: a dictionary from pairs of types to formulas.

torch.distributions.kl_divergence does the same by a dispatch that torch.compile cannot trace.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor
from torch.distributions import Distribution

Formula: TypeAlias = Callable[[Any, Any], Tensor | None]
"""KL(q || p) of two distributions, or None where these two have no closed form."""

_FORMULAS: dict[tuple[type, type], Formula] = {}


def register_kl(q: type, p: type) -> Callable[[Formula], Formula]:
    """Register the decorated function as KL(q || p) in nats, summed over event dimensions, for these types."""

    def register(formula: Formula) -> Formula:
        _FORMULAS[q, p] = formula
        return formula

    return register


def kl_divergence(q: Distribution, p: Distribution) -> Tensor | None:
    """Return KL(q || p) in nats of the common batch shape, or None where they have no closed form."""
    formula = _FORMULAS.get((type(q), type(p)))
    return None if formula is None else formula(q, p)


def registered_pairs() -> tuple[tuple[type, type], ...]:
    """Return the pairs (q, p) that have a closed form."""
    return tuple(_FORMULAS)
