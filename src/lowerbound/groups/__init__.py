"""Latent groups: prior, posterior, and how z enters the state."""

from .beside import Beside, Conditioned
from .coded import Coded, CodedLevel
from .flat import Flat, Prior
from .frequencies import LowFrequencies
from .ladder import Level, Top
from .stacked import Stacked

__all__ = [
    "Beside", "Coded", "CodedLevel", "Conditioned", "Flat", "Level", "LowFrequencies", "Prior", "Stacked", "Top",
]  # fmt: skip
