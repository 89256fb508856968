"""Evaluation: numbers that say what they are."""

from .likelihood import Evaluation, Number, Scores, evaluate, score
from .units import active_units, mean_variance, rate_per_dimension

__all__ = [
    "Evaluation", "Number", "Scores", "active_units", "evaluate", "mean_variance", "rate_per_dimension", "score",
]  # fmt: skip
