"""Posteriors whose dimensions depend on each other: a normal that a flow bends, by a context from the encoder."""

from .flow import IAF, MAF, Planar, Radial, SplineFlow

__all__ = ["IAF", "MAF", "Planar", "Radial", "SplineFlow"]
