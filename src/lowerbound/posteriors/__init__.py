"""Posteriors that depend on more than one network's output: bent by a flow, related to the prior, or of experts."""

from .experts import MixtureOfExperts, MixtureOfProducts, ProductOfExperts
from .flow import IAF, MAF, Planar, Radial, SplineFlow
from .relations import Direct, PrecisionWeighted, Residual

__all__ = [
    "IAF", "MAF", "Direct", "MixtureOfExperts", "MixtureOfProducts", "Planar", "PrecisionWeighted", "ProductOfExperts",
    "Radial", "Residual", "SplineFlow",
]  # fmt: skip
