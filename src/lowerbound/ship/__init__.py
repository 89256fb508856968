"""Saving and loading: safetensors, JSON and a manifest; never a pickle."""

from .save import load, save

__all__ = ["load", "save"]
