"""Examples of several modalities to look at: their images as tiles, their classes and numbers as words."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..core.modalities import modality, split
from ..core.spec import Column, DataSpec

MISSING = "-"


def has_pictures(spec: DataSpec) -> bool:
    """Tell whether examples can be shown as tiles: they are images, or some of their modalities are."""
    return spec.kind == "image" or any(m.spec.kind == "image" for m in spec.modalities)


def tiles_of(spec: DataSpec, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, list[str]]:
    """Return each example's images as one tile `[N, C, H, W]`, one below the other, and the rest of it in words.

    Classes are told by the most probable one, single numbers as they are; longer vectors are left out. Images that are
    missing are white, words "-". Without modalities x is returned as it is, without words.

    Args:
        spec: what the examples are.
        x: `[N, *shape]` in model units.
        mask: 1 where x is observed, `[N, *shape]`, or None.

    >>> from lowerbound import load_data
    >>> data = load_data("digits", with_label=True)
    >>> images, words = tiles_of(data.spec, data.train.take(2).values())
    >>> images.shape, words
    (torch.Size([2, 1, 8, 8]), ['0', '1'])
    """
    if not spec.modalities:
        return x, []
    images, words = [], {}
    for m in spec.modalities:
        tiles, told = only(spec, x, m.name, mask)
        if tiles is not None:
            images.append(tiles)
        if told:
            words[m.name] = told
    named = {name: [f"{name} {word}" for word in told] for name, told in words.items()} if len(words) > 1 else words
    lines = ["\n".join(each) for each in zip(*named.values(), strict=True)]
    return _stacked(images), lines


def only(spec: DataSpec, x: Tensor, name: str, mask: Tensor | None = None) -> tuple[Tensor | None, list[str]]:
    """Return one modality of examples: its images `[N, C, H, W]`, or None, and its words, or none.

    Args:
        spec: what the examples are.
        x: `[N, D]` in model units.
        name: of the modality.
        mask: 1 where x is observed, or None.
    """
    values, each = split(spec, x.detach().cpu().float())[name], modality(spec, name).spec
    there = torch.ones(len(x), dtype=torch.bool)
    if mask is not None:
        there = split(spec, mask.cpu())[name].flatten(1).bool().any(1)
    if each.kind == "image":
        return torch.where(there[:, None, None, None], _in_unit(values, each), 1.0), []
    if each.support != "onehot" and each.dims > 1:
        return None, []
    told = _words(values.flatten(1), each)
    return None, [word if known else MISSING for word, known in zip(told, there.tolist(), strict=True)]


def table_of(spec: DataSpec, x: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
    """Return examples of several modalities as columns of a table: a class as its name, each other value as a number.

    The columns of a table, and a label that was one, keep name, type and units: they are Arrow arrays, others lists.

    Args:
        spec: what the examples are.
        x: `[N, D]` in model units.
        mask: 1 where x is observed, or None; cells that are not are None.
    """
    values, columns = split(spec, x.detach().cpu().float()), {}
    seen = split(spec, torch.ones_like(x, device="cpu") if mask is None else mask.cpu())
    for m in spec.modalities:
        flat, there = values[m.name].flatten(1), seen[m.name].flatten(1).bool()
        if m.spec.columns:
            columns |= _columns(flat, there, m.spec)
        elif m.spec.support == "onehot":
            words, known = _words(flat, m.spec), there.all(1)
            if m.spec.label is None:
                columns[m.name] = _where(words, known)
            else:
                columns[m.spec.label.name] = _labels(words, known, m.spec.label)
        elif flat.shape[1] == 1:
            columns[m.name] = _where(flat[:, 0].tolist(), there[:, 0])
        else:
            columns |= {f"{m.name}{i}": _where(flat[:, i].tolist(), there[:, i]) for i in range(flat.shape[1])}
    return columns


def _columns(values: Tensor, there: Tensor, spec: DataSpec) -> dict[str, Any]:
    """Return the columns of a table in the data's units and types, missing where they are not there."""
    from ..data.tables import to_table

    table = to_table(values.numpy(), spec.columns, observed=there.numpy())
    return dict(zip(table.column_names, table.columns, strict=True))


def _labels(words: Sequence[str], there: Tensor, column: Column) -> Any:
    """Return classes as cells of the column they came from, missing where they are not there."""
    import pyarrow as pa

    from ..data.tables import arrow_column

    places = [i if known else None for i, known in enumerate(there.tolist())]
    return arrow_column(words, column).take(pa.array(places, pa.int64()))


def _where(cells: Sequence[Any], there: Tensor) -> list[Any]:
    return [cell if known else None for cell, known in zip(cells, there.tolist(), strict=True)]


def _words(values: Tensor, spec: DataSpec) -> list[str]:
    """Return values `[N, D]` in words: the most probable class, or the number."""
    if spec.support == "onehot":
        return [spec.classes[i] for i in values.argmax(1).tolist()]
    return [f"{value:.3g}" for value in values[:, 0].tolist()]


def _in_unit(images: Tensor, spec: DataSpec) -> Tensor:
    """Return images with values in [0, 1]: real ones that leave that range are brought there together."""
    if spec.support != "real" or not images.numel():
        return images.clamp(0, 1)
    low, high = min(0.0, float(images.min())), max(1.0, float(images.max()))
    return (images - low) / (high - low)


def _stacked(images: list[Tensor]) -> Tensor:
    """Return images `[N, C, H, W]` of any sizes one below the other, enlarged to about one width, with white between.

    Enlarged are the smaller ones, by whole numbers.
    """
    if len(images) == 1:
        return images[0]
    widest, colours = max(i.shape[-1] for i in images), max(i.shape[1] for i in images)
    whole = []
    for image in images:
        factor = max(1, widest // image.shape[-1])
        big = image.expand(-1, colours, -1, -1).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        room = widest - big.shape[-1]
        whole.append(
            functional.pad(big, (room // 2, room - room // 2, 0, 1 if image is not images[-1] else 0), value=1.0)
        )
    return torch.cat(whole, 2)
