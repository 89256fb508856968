"""Latent groups: prior, posterior, and how z enters the state."""

from .flat import Flat

__all__ = ["Flat"]
