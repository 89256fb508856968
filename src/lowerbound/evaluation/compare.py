"""Models side by side: whether their numbers are about the same quantity, and paired differences of log p(x).

Two means over the same examples share the examples' own spread, so the difference of each example says far more than
the two standard errors do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..data.dataset import Dataset
from ..data.stored import Stored
from .likelihood import Number, Scores, Units, mean_number, score, shares, target_of


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
        low: lower end of the 95% interval, mean - t se, t of Student's distribution with one degree of freedom less
            than there are examples: for many 1.96, for five 2.78; None where there is no standard error.
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
    half = _quantile(share) * number.se
    return Difference(run, first, number, number.value - half, number.value + half)


def _quantile(share: Tensor) -> float:
    """Return the 97.5% point of Student's distribution for a mean over examples; those of weight 0 do not count."""
    return float(stdtrit(int((share > 0).sum()) - 1, 0.975))


def scored(
    models: Mapping[str, VAE], rows: Sequence[Dataset], *, num_samples: int, seed: int, units: Units = "data"
) -> dict[str, Scores]:
    """Return the scores of each model that has a density, all by the same samples of the sampler.

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
        return {}
    for name, _, own in named[1:]:
        if not _same_rows(named[0][2], own):
            raise Incompatible(
                f"{name} and {named[0][0]} see different values of their {own.split} examples",
                fix="train them on the same data with the same --data-seed and --binarize",
            )
    return {name: score(model, own, num_samples=num_samples, seed=seed, units=units) for name, model, own in named}


def differences(scores: Mapping[str, Scores], rows: Dataset, *, num_samples: int) -> list[Difference]:
    """Return the paired difference of each run to the first.

    Args:
        scores: by the runs' names, as `scored` gives them.
        rows: the rows all were scored on.
        num_samples: K of all.
    """
    first = next(iter(scores), None)
    if first is None:
        return []
    pairs = [(name, own) for name, own in scores.items() if name != first]
    return [difference(name, own, first, scores[first], rows, num_samples=num_samples) for name, own in pairs]


@dataclass(frozen=True)
class SeedDifference:
    """Mean log p(x) of one variant less that of another, over training seeds and examples, in nats.

    Args:
        variant: what was trained, with several seeds.
        first: what it is compared with; None for the mean log p(x) of the variant itself.
        seeds: how many runs of each.
        paired: True if both were trained with the same seeds, and runs of one seed are compared.
        value: the mean.
        se_seeds: its standard error over training seeds.
        se_examples: its standard error over the examples; None for one.
        low: lower end of the 95% interval; None for one seed, or one example.
        high: its upper end.
    """

    variant: str
    first: str | None
    seeds: tuple[int, ...]
    paired: bool
    value: float
    se_seeds: float | None
    se_examples: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


Runs: TypeAlias = Mapping[int, Tensor]
"""log p(x) of each example, `[N]`, by the training seed of the run."""


def over_seeds(
    variant: str, runs: Runs, rows: Dataset, *, first: str | None = None, others: Runs | None = None
) -> SeedDifference:
    r"""Return the mean log p(x) of a variant, or its difference to another's, with an interval over seeds and examples.

    With d_sn the value of example n under seed s, the mean varies by both: its variance is estimated as
    s^2_seeds / S + s^2_examples / N, of the means over examples and of the means over seeds. The interval is
    mean +- sqrt((t se_seeds)^2 + (t' se_examples)^2) with t of Student's distribution: S - 1 degrees of freedom for
    one variant or pairs, Welch's (1947, Biometrika 34) for two with different seeds, and N - 1 for the examples. It is
    a little too wide, since what seeds and examples do together counts in both parts.

    Args:
        variant: its name.
        runs: log p(x) of its runs.
        rows: the rows all were scored on; their weights weigh means.
        first: name of the variant it is compared with.
        others: log p(x) of the runs of that one.

    Raises:
        UsageError: if there is no run, or numbers of examples differ.
    """
    both = [runs] if others is None else [runs, others]
    sizes = {len(log_px) for some in both for log_px in some.values()} | {len(rows)}
    if not all(both) or len(sizes) > 1:
        raise UsageError(f"runs of {sorted(sizes)} examples cannot be compared", expected="runs on the same rows")
    share = shares(rows)
    paired = others is not None and set(runs) == set(others)
    if others is None or paired:
        tables = [torch.stack([runs[s] - others[s] if others is not None else runs[s] for s in sorted(runs)]).double()]
    else:
        tables = [torch.stack(list(runs.values())).double(), -torch.stack(list(others.values())).double()]
    each = sum(table.mean(0) for table in tables)
    assert isinstance(each, Tensor)
    number = mean_number(each, share)
    if number.value is None:
        raise UsageError(f"{variant} has no mean: {number.reason}")
    variances = [float((table @ share).var()) / len(table) if len(table) > 1 else math.nan for table in tables]
    counts = tuple(len(some) for some in both)
    facts: dict[str, Any] = {
        "variant": variant,
        "first": first,
        "seeds": counts,
        "paired": paired,
        "value": number.value,
    }
    se_seeds = None if any(math.isnan(v) for v in variances) else math.sqrt(sum(variances))
    if se_seeds is None or number.se is None:
        return SeedDifference(**facts, se_seeds=se_seeds, se_examples=number.se, low=None, high=None)
    freedom = _degrees_of_freedom(variances, [len(table) for table in tables])
    half = math.hypot(float(stdtrit(freedom, 0.975)) * se_seeds, _quantile(share) * number.se)
    low, high = number.value - half, number.value + half
    return SeedDifference(**facts, se_seeds=se_seeds, se_examples=number.se, low=low, high=high)


def _degrees_of_freedom(variances: Sequence[float], counts: Sequence[int]) -> float:
    """Return those of a sum of mean squares (Welch-Satterthwaite); of one, S - 1."""
    below = sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True))
    return sum(variances) ** 2 / below if below > 0 else float(min(counts) - 1)


def mixed(numbers: Mapping[str, Number]) -> str | None:
    """Say how the estimators of one number differ between runs, or None: mixed ones are not to be compared.

    Args:
        numbers: the number of each run, by the run's name; those without a value are left out.
    """
    told = {}
    for run, number in numbers.items():
        if number.value is not None:
            parts = (number.kind, number.side, number.num_samples and f"K = {number.num_samples}", number.target)
            told[run] = " ".join(str(part) for part in parts if part)
    if len(set(told.values())) < 2:
        return None
    return "; ".join(f"{run}: {words}" for run, words in told.items())


def _same_rows(one: Dataset, other: Dataset) -> bool:
    if len(one) != len(other) or one.scale != other.scale:
        return False
    return all(_equal(getattr(one, name), getattr(other, name)) for name in ("x", "seen", "mask", "weight"))


def _equal(a: Tensor | Stored | None, b: Tensor | Stored | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    stored = next((values for values in (a, b) if isinstance(values, Stored)), None)
    parts = [slice(None)] if stored is None else stored.pieces()
    return all(torch.equal(a[part], b[part]) for part in parts)
