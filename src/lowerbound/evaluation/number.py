"""A reported number: what it is, how far it can be trusted, and what it is about."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..data.dataset import Dataset

NumberKind: TypeAlias = Literal["exact", "bound", "estimate"]
Side: TypeAlias = Literal["lower", "upper"]


@dataclass(frozen=True)
class Number:
    """A reported number, or None with the reason why it does not exist.

    Args:
        value: the number; nats for each example unless its name says otherwise.
        se: standard error over the examples: another test set of this size would differ by about this much.
        kind: "exact", "bound" (in expectation: the true value is on its better side) or "estimate".
        side: of a bound, which: "lower" if the true value is above it, "upper" if it is below.
        n: number of examples.
        mc_se: standard error of the sampler alone, for these examples; None for one sample, which has no spread, and
            where it was not measured.
        bias: how far the value still moved from half of the samples to all of them; a bound moves on by about as much.
        num_samples: K.
        target: the quantity it is about.
        reason: why there is no value.
    """

    value: float | None
    se: float | None = None
    kind: NumberKind | None = None
    side: Side | None = None
    n: int | None = None
    mc_se: float | None = None
    bias: float | None = None
    num_samples: int | None = None
    target: str | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something; `value` always."""
        always = ("value",) if self.num_samples is None else ("value", "mc_se")
        return {k: v for k, v in asdict(self).items() if v is not None or k in always}


def number_line(name: str, number: Number, unit: str = "nats") -> str:
    """Return one line about a number: name, value, error, unit, kind, K and target, or why there is none."""
    if number.value is None:
        return f"{name:<13} -          ({number.reason})"
    spread = "" if number.se is None else f" +- {number.se:.3f}"
    more = [unit, f"{number.side} bound" if number.side else str(number.kind)]
    if number.num_samples:
        sampler = "" if number.mc_se is None else f", sampler +- {number.mc_se:.4f}"
        moved = "" if number.bias is None else f", moved {number.bias:+.4f} since K/2"
        more.append(f"K = {number.num_samples}{sampler}{moved}")
    if number.target:
        more.append(number.target)
    return f"{name:<13} {number.value:9.3f}{spread}  ({', '.join(more)})"


def shares(rows: Dataset) -> Tensor:
    """Return each row's share in a mean, `[N]` float64: equal, or by its weight."""
    if rows.weight is None:
        return torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
    weight = rows.weight.cpu().double()
    return weight / weight.sum()


def mean_number(values: Tensor, share: Tensor, **facts: Any) -> Number:
    """Return the weighted mean over the examples with its standard error, or None where a value is not finite.

    Args:
        values: one for each example, `[N]` float64.
        share: each example's share in the mean, `[N]`, as `shares` gives it.
        facts: the other fields of `Number`.
    """
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        return Number(None, reason=f"{bad} of {len(values)} examples have a value that is not finite")
    if not bool(torch.isfinite(share).all()):
        return Number(None, reason=f"the weights of these {len(values)} examples are all 0")
    counted, mean = int((share > 0).sum()), (share * values).sum()
    # for equal shares 1/n this is the usual std / sqrt(n)
    spread = (share * (values - mean)).square().sum() * counted / (counted - 1) if counted > 1 else None
    return Number(float(mean), None if spread is None else math.sqrt(float(spread)), n=len(values), **facts)


def stamped(found: Any, **facts: Any) -> Any:
    """Return numbers as JSON with these facts in each that has a value, however deep, so that none travels without.

    Args:
        found: what `to_json` gave.
        facts: such as the seed, the split and the binarisation of the rows.

    >>> stamped({"nll": {"value": 97.2, "kind": "bound"}}, seed=0, split="test")
    {'nll': {'seed': 0, 'split': 'test', 'value': 97.2, 'kind': 'bound'}}
    """
    if isinstance(found, dict):
        inner = {name: stamped(part, **facts) for name, part in found.items()}
        return {**facts, **inner} if "value" in found and "kind" in found else inner
    return [stamped(part, **facts) for part in found] if isinstance(found, list | tuple) else found
