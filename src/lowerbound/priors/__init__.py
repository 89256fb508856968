"""Priors p(z) or p(z|y)."""

from .standard import ConditionalPrior, StandardNormal

__all__ = ["ConditionalPrior", "StandardNormal"]
