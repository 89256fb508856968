"""Evaluation: numbers that say what they are."""

from .likelihood import Evaluation, Number, Scores, evaluate, score
from .units import active_units, mean_variance, rate_per_dimension, rate_per_group

__all__ = [
    "Evaluation", "Number", "Scores", "active_units", "evaluate", "mean_variance", "rate_per_dimension",
    "rate_per_group", "score",
]  # fmt: skip
