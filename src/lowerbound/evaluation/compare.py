"""Models side by side: whether their numbers are about the same quantity, and paired differences of log p(x).

Two means over the same examples share the examples' own spread, so the difference of each example says far more than
the two standard errors do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..data.dataset import Dataset
from .likelihood import Number, Scores, Units, mean_number, score, shares, target_of

NORMAL_95 = 1.959963984540054  # 97.5% point of the standard normal distribution


@dataclass(frozen=True)
class Subject:
    """What the numbers of one model on some rows are about; those of two models compare only where it is the same.

    Args:
        data: name of the data.
        fingerprint: digest of all their rows, by which data of one name are told apart.
        split: which rows.
        n: number of examples.
        binarisation: how grey values became 0/1.
        values: whether the likelihood gives probabilities of discrete values, or densities of continuous ones.
        target: the quantity that is bounded.
        units: whose units a density is in.
    """

    data: str
    fingerprint: str | None
    split: str
    n: int
    binarisation: str
    values: str
    target: str
    units: Units


def subject_of(model: VAE, rows: Dataset, *, fingerprint: str | None = None, units: Units = "data") -> Subject:
    """Return what numbers of `model` on `rows` are about; the rows are as the model wants them (`Dataset.matching`)."""
    return Subject(
        data=rows.spec.name,
        fingerprint=fingerprint,
        split=rows.split,
        n=len(rows),
        binarisation=rows.spec.binarize,
        values="probabilities" if model.decoder.family.discrete else "densities",
        target=target_of(model, rows),
        units=units,
    )


def check_same(subjects: Mapping[str, Subject]) -> Subject:
    """Return the one subject of all runs.

    Args:
        subjects: what each run's numbers are about, by the run's name.

    Raises:
        Incompatible: if they differ; the message lists which run has which.
    """
    first = next(iter(subjects.values()))
    lines = []
    for name in vars(first):
        found = {run: getattr(subject, name) for run, subject in subjects.items()}
        if len(set(found.values())) > 1:
            lines += [f"{name:<14}{'; '.join(f'{run}: {value}' for run, value in found.items())}"]
    if lines:
        raise Incompatible(
            "these runs cannot be compared: their numbers are about different things\n    " + "\n    ".join(lines),
            expected="the same data, rows, binarisation, units and target",
            fix="compare runs that share them; lowerbound evaluate RUN gives the numbers of each",
        )
    return first


@dataclass(frozen=True)
class Difference:
    """Mean over the examples of log p(x) under `run` less that under `first`, in nats: above 0, `run` is better.

    Both are lower bounds by K samples, so a part of the difference may be that of their gaps.

    Args:
        run: the run.
        first: the run it is compared with.
        number: the mean with its standard error over the examples; `mc_se` is what the sampler adds.
        low: lower end of the 95% interval, mean - 1.96 se; None where there is no standard error.
        high: its upper end.
    """

    run: str
    first: str
    number: Number
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        return {"run": self.run, "first": self.first, **self.number.to_json(), "low": self.low, "high": self.high}


def difference(
    run: str, scores: Scores, first: str, reference: Scores, rows: Dataset, *, num_samples: int
) -> Difference:
    """Return the paired difference of log p(x) between two runs that were scored on the same rows.

    Args:
        run: name of the run.
        scores: its scores, by `score`.
        first: name of the run it is compared with.
        reference: the scores of that one.
        rows: the rows both were scored on; their weights weigh the mean.
        num_samples: K of both.

    Raises:
        UsageError: if the numbers of examples differ.
    """
    sizes = (len(scores.log_px), len(reference.log_px), len(rows))
    if len(set(sizes)) > 1:
        raise UsageError(f"{run}, {first} and the rows have {sizes} examples", expected="the same rows")
    share = shares(rows)
    spread = math.sqrt(float((share.square() * (scores.variance + reference.variance)).sum()))
    mc_se = None if math.isnan(spread) else spread
    facts = {"kind": "estimate", "mc_se": mc_se, "num_samples": num_samples}
    number = mean_number(scores.log_px - reference.log_px, share, **facts)
    if number.value is None or number.se is None:
        return Difference(run, first, number, None, None)
    return Difference(run, first, number, number.value - NORMAL_95 * number.se, number.value + NORMAL_95 * number.se)


def differences(
    models: Mapping[str, VAE], rows: Sequence[Dataset], *, num_samples: int, seed: int, units: Units = "data"
) -> list[Difference]:
    """Return the paired difference of each model to the first that has a density; empty if fewer than two have one.

    Args:
        models: the models by their runs' names.
        rows: the rows of each, as it wants them.
        num_samples: K of all.
        seed: seed of the sampler of all.
        units: "data" or "model": whose units densities of standardised columns are in.

    Raises:
        Incompatible: if the rows are not the same.
    """
    named = [(name, model, r) for (name, model), r in zip(models.items(), rows, strict=True) if model.has_density]
    if len(named) < 2:
        return []
    first, model, shared = named[0]
    for name, _, own in named[1:]:
        if not _same_rows(shared, own):
            raise Incompatible(
                f"{name} and {first} see different values of their {own.split} examples",
                fix="train them on the same data with the same --data-seed and --binarize",
            )
    reference = score(model, shared, num_samples=num_samples, seed=seed, units=units)
    found = []
    for name, model, own in named[1:]:
        scores = score(model, own, num_samples=num_samples, seed=seed, units=units)
        found.append(difference(name, scores, first, reference, shared, num_samples=num_samples))
    return found


def _same_rows(one: Dataset, other: Dataset) -> bool:
    if len(one) != len(other) or one.scale != other.scale:
        return False
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("x", "seen", "mask", "weight")]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)
