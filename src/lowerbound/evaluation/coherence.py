"""Coherence: how often what a model makes of one modality agrees with what it was given of others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.modalities import modality, split, translate
from ..core.model import VAE, Show, spec_of
from ..core.noise import Stream, mix
from ..core.walk import from_posterior
from ..data.dataset import Dataset
from .number import Number, mean_number, shares, stamped

Agree: TypeAlias = Callable[[dict[str, Tensor]], Tensor]
"""From some modalities of N examples by name to whether they belong together, `[N]` bool."""
ROWS = 500


@dataclass(frozen=True)
class Coherence:
    """Shares of examples whose modalities agree, each between 0 and 1.

    Args:
        pairs: by (given, to): what is made of `to` agrees with what was given.
        data: by (given, to): the data's own `to` agrees with what was given: what the judge itself gets right.
        joint: samples from the prior agree in all modalities.
        rows: number of examples of each pair.
    """

    pairs: dict[tuple[tuple[str, ...], str], Number]
    data: dict[tuple[tuple[str, ...], str], Number]
    joint: Number
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the shares, pairs called "given -> to"."""
        named = {_called(pair): number.to_json() for pair, number in self.pairs.items()}
        own = {_called(pair): number.to_json() for pair, number in self.data.items()}
        return stamped({"pairs": named, "data": own, "joint": self.joint.to_json()}, rows=self.rows)

    def __str__(self) -> str:
        wide = max(len(_called(pair)) for pair in self.pairs)
        lines = [f"{'given -> made':<{wide}}  agree    the data's own"]
        for pair, number in self.pairs.items():
            lines.append(f"{_called(pair):<{wide}}  {number.value:.3f}    {self.data[pair].value:.3f}")
        return "\n".join([*lines, f"{'samples of all':<{wide}}  {self.joint.value:.3f}"])


def _called(pair: tuple[tuple[str, ...], str]) -> str:
    return f"{' + '.join(pair[0])} -> {pair[1]}"


def same_class(readers: Mapping[str, Callable[[Tensor], Tensor]]) -> Agree:
    """Return a judge for which modalities agree that are read as the same class.

    Args:
        readers: by name, from values `[N, *shape]` to the class of each, `[N]`; a modality without one always agrees.

    >>> agree = same_class({"label": lambda values: values.argmax(1), "twice": lambda values: values.argmax(1)})
    >>> agree({"label": torch.eye(3), "twice": torch.eye(3)[[0, 2, 2]]}).tolist()
    [True, False, True]
    """

    def agree(parts: dict[str, Tensor]) -> Tensor:
        read = [readers[name](values) for name, values in parts.items() if name in readers]
        if not read:
            raise UsageError(f"nothing reads {', '.join(parts)}", expected="a reader for each modality")
        return torch.stack([classes == read[0] for classes in read]).all(0)

    return agree


def coherence(
    model: VAE,
    data: Dataset,
    agree: Agree,
    *,
    pairs: Sequence[tuple[Sequence[str], str]] | None = None,
    show: Show = "mean",
    seed: int = 0,
) -> Coherence:
    """Measure how coherent a model of several modalities is (Shi et al. 2019, arXiv 1911.03393, sec. 4.1).

    For each pair (given, to), z is drawn from q(z|x_given), and `agree` judges the data's x_given beside p(x_to|z);
    for joint samples z is drawn from the prior, and all modalities are judged. Rows that lack a modality of a pair are
    left out of it.

    Args:
        model: a model of several modalities.
        data: rows as the model wants them (`Dataset.matching`).
        agree: the judge, such as `same_class` of classifiers.
        pairs: (given, to); by default each modality from every set of the others.
        show: whether a modality that is made is the mean of p(x|z) or a draw from it.
        seed: decides every z and draw.

    Raises:
        UsageError: if there is no such modality, or one is to be made of itself.
        DataError: if no row has all modalities of a pair.
    """
    spec = spec_of(model)
    asked = _pairs([m.name for m in spec.modalities]) if pairs is None else [(tuple(g), to) for g, to in pairs]
    made, own = {}, {}
    for place, (given, to) in enumerate(asked):
        for name in (*given, to):
            modality(spec, name)
        if to in given or not given:
            raise UsageError(f"{to} cannot be made of {' + '.join(given) or 'nothing'}", expected="other modalities")
        rows = _having(data, (*given, to))
        keys = (seed, place)
        found = [
            _judged(model, rows.rows(slice(i, i + ROWS)), agree, given, to, show, (*keys, i)) for i in _starts(rows)
        ]
        right, true = (torch.cat(each).double().cpu() for each in zip(*found, strict=True))
        made[given, to], own[given, to] = (_share(values, rows) for values in (right, true))
    samples = [split(spec, model.sample(ROWS, show=show, seed=mix(Stream.SHOWN, seed, i))) for i in _starts(data)]
    whole = torch.cat([agree(parts) for parts in samples]).double().cpu()
    joint = mean_number(whole, torch.full_like(whole, 1 / len(whole)), kind="estimate")
    return Coherence(made, own, joint, len(data))


def _pairs(names: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    found = []
    for to in names:
        others = [name for name in names if name != to]
        found += [(given, to) for size in range(1, len(names)) for given in combinations(others, size)]
    return found


def _starts(rows: Dataset) -> range:
    return range(0, len(rows), ROWS)


def _share(values: Tensor, rows: Dataset) -> Number:
    return mean_number(values, shares(rows), kind="estimate")


def _having(data: Dataset, names: Sequence[str]) -> Dataset:
    """Return the rows that have all these modalities."""
    mask = data.mask_values()
    if mask is None:
        return data
    seen = split(data.spec, mask)
    there = torch.stack([seen[name].flatten(1).all(1) for name in names]).all(0)
    if not bool(there.any()):
        raise DataError(f"no row of {data.spec.name} has {' and '.join(names)}", expected="some rows that have all")
    return data.rows(there.nonzero().flatten())


def _judged(
    model: VAE, rows: Dataset, agree: Agree, given: tuple[str, ...], to: str, show: Show, keys: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return whether what is made of `to`, and the data's own, agree with what is given, `[N]` each."""
    x = rows.batch(slice(None)).x
    own = split(rows.spec, x)
    made = translate(model, x, given=given, to=to, source=from_posterior, show=show, seed=mix(Stream.SHOWN, *keys))
    made, shown = made.to(x.device), {name: own[name] for name in given}
    return agree({**shown, to: made}), agree({**shown, to: own[to]})
