"""Invertible maps with the log-determinant of their Jacobian; the only package that imports zuko."""

from .autoregressive import Autoregressive
from .base import Chain, Flow, Inverted, Reorder
from .build import FlowKind, autoregressive_flow, check_flow, coupling_flow, prior_flow
from .coupling import Conditioner, Coupling
from .elements import Affine, Elements, Gate, Spline
from .flowed import Flowed
from .residual import PlanarFlow, RadialFlow

__all__ = [
    "Affine", "Autoregressive", "Chain", "Conditioner", "Coupling", "Elements", "Flow", "FlowKind", "Flowed", "Gate",
    "Inverted", "PlanarFlow", "RadialFlow", "Reorder", "Spline", "autoregressive_flow", "check_flow",
    "coupling_flow", "prior_flow",
]  # fmt: skip
