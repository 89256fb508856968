"""Several modalities in one tensor: taken apart, shown in part, and one told from others."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from .errors import UsageError
from .model import VAE, Show, spec_of
from .spec import DataSpec, Modality
from .walk import Source, mode


def modality(spec: DataSpec, name: str) -> Modality:
    """Return the modality called `name`.

    Raises:
        UsageError: if there is none.
    """
    for each in spec.modalities:
        if each.name == name:
            return each
    names = ", ".join(m.name for m in spec.modalities)
    raise UsageError(
        f"{spec.name} has no modality {name!r}",
        expected=names or "data of several modalities: joined(...), or --with-label",
    )


def places(spec: DataSpec) -> dict[str, slice]:
    """Return where in x the values of each modality are."""
    ends = list(accumulate(m.spec.dims for m in spec.modalities))
    return {m.name: slice(end - m.spec.dims, end) for m, end in zip(spec.modalities, ends, strict=True)}


def split(spec: DataSpec, x: Tensor) -> dict[str, Tensor]:
    """Return the modalities of examples `[N, D]` by name, each `[N, *shape]`.

    >>> image = DataSpec("image", (1, 2, 2), "image", "unit", 9)
    >>> both = DataSpec("both", (5,), "points", "mixed", 9, modalities=(Modality("image", image), Modality("y", image)))
    >>> split(both, torch.zeros(3, 8))["image"].shape
    torch.Size([3, 1, 2, 2])
    """
    where = places(spec)
    return {m.name: x[..., where[m.name]].unflatten(-1, m.spec.shape) for m in spec.modalities}


def together(spec: DataSpec, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return examples `[N, D]` of the modalities that are given, in model units, and the mask of what is given.

    Raises:
        UsageError: if none is given, or one is unknown.
    """
    for name in parts:
        modality(spec, name)
    if not parts:
        raise UsageError("no modality was given", expected=", ".join(m.name for m in spec.modalities))
    like = next(iter(parts.values()))
    x, mask, where = like.new_zeros(len(like), spec.dims), like.new_zeros(len(like), spec.dims), places(spec)
    for name, values in parts.items():
        x[:, where[name]], mask[:, where[name]] = values.flatten(1), 1.0
    return x, mask


def cells(spec: DataSpec, names: Sequence[str]) -> Tensor:
    """Return 1 for the values of these modalities and 0 for the others, `[D]`.

    Raises:
        UsageError: if one is unknown.
    """
    where, made = places(spec), torch.zeros(spec.dims)
    for name in names:
        made[where[modality(spec, name).name]] = 1.0
    return made


def translate(
    model: VAE,
    x: Tensor,
    *,
    given: Sequence[str],
    to: str,
    mask: Tensor | None = None,
    source: Source = mode,
    show: Show = "mean",
    seed: int | None = None,
) -> Tensor:
    """Return what the model makes of one modality from others, `[N, *shape]`: p(x_to|z), z of q(z|x_given).

    Args:
        model: a model of several modalities.
        x: examples `[N, D]`; nothing but the cells of the given modalities is looked at.
        given: names of the modalities the encoder sees.
        to: name of the modality that is made.
        mask: 1 where x is observed, `[N, D]`; a row without any of the given ones is made of the prior.
        source: `mode` takes the posterior's centre, `from_posterior` draws z.
        show: the mean of p(x|z), or a draw from it.
        seed: of the draws; None goes on with the default generator.

    Raises:
        UsageError: if there is no such modality, or none is given.
    """
    spec = spec_of(model)
    modality(spec, to)
    if not given:
        raise UsageError("no modality was given", expected=", ".join(m.name for m in spec.modalities if m.name != to))
    shown = cells(spec, given).to(x.device).expand_as(x)
    shown = shown if mask is None else shown * mask.to(shown)
    made = model.reconstruct(x, mask=shown, source=source, show=show, seed=seed)
    return split(spec, made)[to]
