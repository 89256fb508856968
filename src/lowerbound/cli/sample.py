"""`lowerbound sample RUN`: new examples from the prior."""

from dataclasses import dataclass
from difflib import get_close_matches
from shlex import quote

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE, Group, spec_of
from ..explore.latents import has_standard_prior
from ..explore.modalities import tiles_of
from ..explore.sheets import sample_grid
from ..explore.write import target, write_examples
from .common import RunOptions, ShownOptions, default_show, open_model
from .mistakes import parse
from .output import say, wrote


@dataclass(kw_only=True)
class Sample(ShownOptions, RunOptions):
    """Draw z from the prior and decode it: a grid of images, or rows with the columns of the data."""

    num: int = 64
    """How many."""
    label: str | None = None
    """The class to draw, of a conditional model (default: each in turn)."""
    temperature: tuple[float, ...] = (1.0,)
    """Multiplies the prior's standard deviation: below 1 nearer to its mean. Of codes with a fitted prior it divides
    the logits. One, or one for each level."""


def command(words: list[str]) -> int:
    """Run `lowerbound sample`."""
    options = parse(Sample, words, "sample")
    folder, model, spec = open_model(options)
    show = default_show(options.show, spec)
    drawn = [f"class {options.label}"] if options.label is not None else []
    warm = options.temperature[0] if len(options.temperature) == 1 else options.temperature
    drawn += [f"temperature {' '.join(f'{t:g}' for t in options.temperature)}"] if warm != 1 else []
    name = "-".join(["samples", show, *(part.split(" ", 1)[1].replace("/", "_").replace(" ", "_") for part in drawn)])
    path = target(options.out, folder / "samples" / name, spec)
    classes = label_numbers(model, options.label, options.num)
    y = None if classes is None else one_hot(model, classes)
    if not model.has_density and has_standard_prior(model, y):
        say(
            "this model has no density: unless its objective made its codes follow the prior, samples may look like "
            f"nothing (lowerbound report {quote(options.run)} shows codes and prior)"
        )
    made = model.sample(options.num, y, temperature=warm, show=show, seed=options.seed)

    def sheet() -> Image.Image:
        images, words = tiles_of(spec, made)
        return sample_grid(images, show, drawn=drawn, support=spec.support, words=words)

    write_examples(path, made, spec, sheet, y=classes)
    return wrote(path, f"lowerbound reconstruct {quote(options.run)}", as_json=options.json, num=options.num, show=show)


def label_numbers(model: VAE, label: str | None, num: int) -> Tensor | None:
    """Return class numbers `[num]` for a conditional model: the class asked for, or each in turn.

    Raises:
        UsageError: if the model has no such class, or reads no condition.
    """
    spec = model.spec
    if not model.conditional or spec is None:
        if label is not None:
            if _top_is_class(model):
                fix = "decode one-hot codes: a file with columns z0, z1, ... and 1 at the class (lowerbound decode)"
                raise UsageError("the class is a latent of this model, not a condition", fix=fix)
            if spec is not None and spec.modalities:
                fix = "make it from the label: lowerbound translate RUN --given label --to image"
                raise UsageError("this model has several modalities and no condition", fix=fix)
            raise UsageError("this model is not conditional: it cannot draw a class", fix="train cvae, or drop --label")
        return None
    if label is not None and label not in spec.classes:
        near = get_close_matches(label, spec.classes, 1)
        fix = f"did you mean {near[0]}?" if near else ""
        raise UsageError(f"there is no class {label!r} in {spec.name}", expected=", ".join(spec.classes[:50]), fix=fix)
    if label is not None:
        return torch.full((max(num, 0),), spec.classes.index(label))
    return torch.arange(max(num, 0)) % spec.num_classes


def _top_is_class(model: VAE) -> bool:
    group = model.groups[0]
    return isinstance(group, Group) and group.posterior_family.support == "onehot"


def one_hot(model: VAE, classes: Tensor) -> Tensor:
    """Return one-hot labels `[N, C]` on the model's device."""
    return torch.eye(spec_of(model).num_classes)[classes].to(model.device)
