"""Latent groups: prior, posterior, and how z enters the state."""

from .beside import Beside, Conditioned
from .flat import Flat, Prior
from .ladder import Level, Top
from .stacked import Stacked

__all__ = ["Beside", "Conditioned", "Flat", "Level", "Prior", "Stacked", "Top"]
