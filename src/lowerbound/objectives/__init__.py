"""Objectives: each reads a trace and returns losses to minimise and terms to report."""

from .corrupt import Corrupt
from .elbo import ELBO
from .reconstruction import Reconstruction
from .simple import SimpleRegularizer

__all__ = ["ELBO", "Corrupt", "Reconstruction", "SimpleRegularizer"]
