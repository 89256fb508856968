"""`lowerbound manifold RUN`: the grid of examples that two latent dimensions span."""

from dataclasses import dataclass
from math import prod
from shlex import quote
from typing import Literal

from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import UsageError
from ..explore.latents import check_axes, even, latent_shape, manifold, prior_of, quantiles, shares
from ..explore.sheets import example_grid, sheet_caption
from ..explore.write import target, write_examples
from .common import RunOptions, ShownOptions, open_model, say_levels
from .mistakes import parse
from .output import say, wrote
from .sample import label_numbers, one_hot

REACH = 3.0  # standard deviations of the prior


@dataclass(kw_only=True)
class Manifold(ShownOptions, RunOptions):
    """Decode a grid of two latent dimensions; the others are at the prior's mean."""

    dims: tuple[int, int] = (0, 1)
    """Which two dimensions: across and up."""
    steps: int = 20
    """How many values of each."""
    grid: Literal["quantiles", "linear"] = "quantiles"
    """Equal steps of the prior's probability (its inverse CDF), or equal steps over 3 standard deviations each way."""
    label: str | None = None
    """The class, of a conditional model (default: the first)."""


def command(words: list[str]) -> int:
    """Run `lowerbound manifold`."""
    options = parse(Manifold, words, "manifold")
    folder, model, spec = open_model(options)
    check_axes(model)
    if prod(latent_shape(model)) < 2:
        raise UsageError(
            "this model has one latent dimension: it spans no grid", fix=f"lowerbound traverse {quote(options.run)}"
        )
    one = label_numbers(model, options.label, 1)
    prior = prior_of(model, None if one is None else one_hot(model, one))
    values = _values(prior, options)
    codes = manifold(prior.mean.flatten().cpu(), values, options.dims).unflatten(1, latent_shape(model))
    if one is not None:
        say(f"class {spec.classes[int(one[0])]}")
    say_levels(model)
    classes = None if one is None else one.expand(len(codes))
    show = options.show or "mean"
    made = model.decode(codes, None if classes is None else one_hot(model, classes), show=show, seed=options.seed)
    across, up = options.dims
    linear = f"equal steps over {REACH:g} sd to each side"
    steps = linear if options.grid == "linear" else "equal steps of the prior's probability"
    caption = sheet_caption(f"z{across} across, z{up} up, at {steps}", show)
    path = target(options.out, folder / "samples" / f"manifold-{options.grid}-{show}", spec)
    write_examples(
        path,
        made,
        spec,
        lambda: example_grid(made, spec, columns=options.steps, caption=caption, gap=0),
        y=classes,
        more={"z": codes.flatten(1)},
    )
    return wrote(path, f"lowerbound traverse {quote(options.run)}", as_json=options.json, dims=list(options.dims))


def _values(prior: Distribution, options: Manifold) -> Tensor:
    """Return the values that each dimension takes, `[steps, D]`."""
    if options.grid == "linear":
        return even(prior, options.steps, REACH)
    return quantiles(prior, shares(options.steps, 1 - 1 / max(options.steps, 2)))
