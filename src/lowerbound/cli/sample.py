"""`lowerbound sample RUN`: new examples from the prior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..explore.write import write_samples
from .common import PictureOptions, open_with_device, parse, result, saved, say


@dataclass(kw_only=True)
class Sample(PictureOptions):
    """Draw z from the prior and decode it: a grid of images (PNG), or rows of other data (CSV)."""

    num: int = 64
    """How many."""
    label: str | None = None
    """The class to draw, of a conditional model (default: each in turn)."""
    seed: int = 0
    """Seed of z and of the draw."""


def command(words: list[str]) -> int:
    """Run `lowerbound sample`."""
    options = parse(Sample, words, "sample")
    folder, model = open_with_device(options.run, options.device)
    y = labels(model, options.label, options.num)
    if not model.has_density:
        say("this model has no density: nothing made its codes follow the prior, so samples may look like nothing")
    samples = model.sample(options.num, y, show=options.show, seed=options.seed)
    default = folder / "samples" / f"samples-{options.show}"
    assert model.spec is not None
    path = write_samples(options.out or default, samples, model.spec, options.show)
    result(str(path))
    saved(path, f"lowerbound reconstruct {options.run}")
    return 0


def labels(model: VAE, label: str | None, num: int) -> Tensor | None:
    """Return one-hot labels `[num, C]` for a conditional model: the class asked for, or each in turn.

    Raises:
        UsageError: if the model has no such class, or reads no condition.
    """
    spec = model.spec
    if not model.conditional or spec is None:
        if label is not None:
            raise UsageError("this model is not conditional: it cannot draw a class", fix="train cvae, or drop --label")
        return None
    if label is not None and label not in spec.classes:
        raise UsageError(f"there is no class {label!r} in {spec.name}", expected=", ".join(spec.classes))
    index = torch.arange(num) % spec.num_classes
    if label is not None:
        index = torch.full((num,), spec.classes.index(label))
    return torch.eye(spec.num_classes)[index].to(model.device)
