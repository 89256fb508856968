"""Posteriors that depend on more than one network's output: bent by a flow, related to the prior, or rounded."""

from .flow import IAF, MAF, Planar, Radial, SplineFlow
from .quantizers import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from .relations import Direct, PrecisionWeighted, Residual

__all__ = [
    "IAF", "MAF", "Direct", "FiniteScalarQuantizer", "LookupFreeQuantizer", "Planar", "PrecisionWeighted", "Radial",
    "Residual", "SplineFlow", "VectorQuantizer",
]  # fmt: skip
