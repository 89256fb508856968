"""Latent groups: prior, posterior, and how z enters the state."""

from .flat import Flat, Prior

__all__ = ["Flat", "Prior"]
