"""Latent groups: prior, posterior, and how z enters the state."""

from .beside import Beside, Conditioned
from .flat import Flat, Prior

__all__ = ["Beside", "Conditioned", "Flat", "Prior"]
