"""Posteriors of more than one network's output: bent by a flow, related to the prior, rounded, or of experts."""

from .experts import MixtureOfExperts, MixtureOfProducts, ProductOfExperts
from .flow import IAF, MAF, Planar, Radial, SplineFlow
from .quantizers import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from .relations import Direct, PrecisionWeighted, Residual

__all__ = [
    "IAF", "MAF", "Direct", "FiniteScalarQuantizer", "LookupFreeQuantizer", "MixtureOfExperts", "MixtureOfProducts",
    "Planar", "PrecisionWeighted", "ProductOfExperts", "Radial", "Residual", "SplineFlow", "VectorQuantizer",
]  # fmt: skip
