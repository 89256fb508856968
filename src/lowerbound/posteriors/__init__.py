"""Posteriors that depend on more than one network's output: bent by a flow, or related to the prior."""

from .flow import IAF, MAF, Planar, Radial, SplineFlow
from .relations import Direct, PrecisionWeighted, Residual

__all__ = ["IAF", "MAF", "Direct", "Planar", "PrecisionWeighted", "Radial", "Residual", "SplineFlow"]
