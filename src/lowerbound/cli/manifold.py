"""`lowerbound manifold RUN`: the grid of examples that two latent dimensions span."""

from dataclasses import dataclass
from math import prod

from ..core.errors import UsageError
from ..explore.latents import latent_shape, manifold, prior_of
from ..explore.sheets import grid, sheet_caption
from ..explore.write import target, write_examples
from .common import RunOptions, ShownOptions, open_model
from .mistakes import parse
from .output import say, wrote
from .sample import label_numbers, one_hot


@dataclass(kw_only=True)
class Manifold(ShownOptions, RunOptions):
    """Decode a grid of two latent dimensions at equal steps of the prior's probability; the others at its mean."""

    dims: tuple[int, int] = (0, 1)
    """Which two dimensions: across and up."""
    steps: int = 20
    """How many values of each."""
    label: str | None = None
    """The class, of a conditional model (default: the first)."""


def command(words: list[str]) -> int:
    """Run `lowerbound manifold`."""
    options = parse(Manifold, words, "manifold")
    folder, model, spec = open_model(options)
    if prod(latent_shape(model)) < 2:
        raise UsageError(
            "this model has one latent dimension: it spans no grid", fix=f"lowerbound traverse {options.run}"
        )
    one = label_numbers(model, options.label, 1)
    prior = prior_of(model, None if one is None else one_hot(model, one))
    mean, scale = (v.reshape(-1).cpu() for v in (prior.mean, prior.variance.sqrt()))
    codes = manifold(scale, mean, options.dims, options.steps).unflatten(1, latent_shape(model))
    if one is not None:
        say(f"class {spec.classes[int(one[0])]}")
    classes = None if one is None else one.expand(len(codes))
    show = options.show or "mean"
    made = model.decode(codes, None if classes is None else one_hot(model, classes), show=show, seed=options.seed)
    across, up = options.dims
    caption = sheet_caption(f"z{across} across, z{up} up, at equal steps of the prior's probability", show)
    path = target(options.out, folder / "samples" / f"manifold-{show}", spec)
    write_examples(
        path,
        made,
        spec,
        lambda: grid(made, columns=options.steps, caption=caption, support=spec.support, gap=0),
        y=classes,
        more={"z": codes.flatten(1)},
    )
    return wrote(path, f"lowerbound traverse {options.run}", as_json=options.json, dims=list(options.dims))
