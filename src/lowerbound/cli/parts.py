"""Parts by name: `--prior vamp --prior.pseudo-inputs 500` in place of a recipe's own prior."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from torch import nn

from ..core.compose import composed
from ..core.errors import UsageError
from ..core.model import Family
from ..core.noise import Stream, seeded
from ..core.objective import Schedule
from ..core.recipe import Recipe
from ..core.spec import DataSpec
from ..recipes.parts import noise_floor
from .common import dataclass_of, options_of
from .mistakes import parse
from .part_names import NAMES

Kind: TypeAlias = Literal["likelihood", "posterior", "prior", "objective"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BOUND = ("event_shape", "latent_shape", "in_shape", "num_classes", "classes", "values", "masked")
"""Arguments of parts that follow from the data and the recipe, and are no options."""


@dataclass(frozen=True)
class Chosen:
    """A part that was asked for: its name, and the options given for it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def maker(kind: Kind, name: str) -> Callable[..., Any]:
    """Return the class or function that makes the part called `name`."""
    return NAMES[kind][name]


def names_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of the parts of one kind."""
    return tuple(NAMES[kind])


def split_words(words: list[str]) -> tuple[list[str], dict[Kind, list[str]]]:
    """Separate the options of parts (`--prior.pseudo-inputs 500`) from the other words."""
    rest: list[str] = []
    dotted: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    target = rest
    for word in words:
        if word.startswith("--"):
            owner = word[2:].removeprefix("no-").partition(".")
            target = dotted[owner[0]] if owner[1] and owner[0] in KINDS else rest
        target.append(word)
    return rest, dotted


def chosen_parts(given: Mapping[str, Any], dotted: Mapping[Kind, list[str]]) -> dict[Kind, Chosen]:
    """Return the parts that the words ask for.

    Raises:
        UsageError: if an option is given for a part that was not chosen, or the part has no such option.
    """
    found: dict[Kind, Chosen] = {}
    for kind in KINDS:
        name, words = given[kind], dotted[kind]
        if name is None and words:
            raise UsageError(
                f"{words[0].partition('=')[0]} is an option of a {kind} that was not chosen",
                expected=f"--{kind} NAME before its options",
                fix=f"lowerbound parts {kind} lists the names",
            )
        if name is not None:
            found[kind] = Chosen(name, _options(kind, name, words))
    return found


def part_options(kind: Kind, name: str) -> type:
    """Return a dataclass of the options of a part; its docstring is the help."""
    make = maker(kind, name)
    fields = [
        (option, _settable(annotation), default)
        for option, annotation, default in options_of(make, without=BOUND)
        if _settable(annotation) is not None
    ]
    return dataclass_of(f"{kind}_{name}", fields, inspect.getdoc(make) or "")


def with_parts(recipe: Recipe, spec: DataSpec, parts: Mapping[Kind, Chosen]) -> Recipe:
    """Return the recipe with these parts in place of its own; their options join the recipe's.

    Raises:
        Incompatible: if they cannot mean anything together.
    """
    if not parts:
        return recipe
    made: dict[str, Any] = {}
    family = recipe.groups[-1].posterior_family
    with seeded(Stream.WEIGHTS, 0):
        for kind in ("likelihood", "posterior", "prior", "objective"):
            if kind in parts:
                made[kind] = made_part(kind, parts[kind], spec, family)
            if kind == "posterior" and isinstance(made.get("posterior"), Family):
                family = made["posterior"]
    whole = composed(recipe, **made, spec=spec)
    return whole.replace(options={**recipe.options, **as_options(parts)})


def as_options(parts: Mapping[Kind, Chosen]) -> dict[str, Any]:
    """Return chosen parts as options of a file: `prior: vamp`, `prior.pseudo_inputs: 500`."""
    named: dict[str, Any] = {}
    for kind, part in parts.items():
        named[kind] = part.name
        named |= {f"{kind}.{option}": value for option, value in part.options.items()}
    return named


def made_part(kind: Kind, part: Chosen, spec: DataSpec, posterior: Family, context: tuple[int, ...] = ()) -> Any:
    """Return the part that was asked for, for a model of these data with this posterior.

    Args:
        kind: of part.
        part: its name and options.
        spec: the data.
        posterior: of z.
        context: shape of what a prior reads beside, unless its options say so.
    """
    make, latent = maker(kind, part.name), posterior.prior_shape
    known = {
        "event_shape": spec.shape if kind in ("likelihood", "objective") else latent,
        "latent_shape": latent,
        "classes": getattr(posterior, "classes", 2),
        "in_shape": spec.shape,
        "num_classes": spec.num_classes,
        "values": "unit" if spec.support in ("binary", "unit") else "real",
        "masked": spec.masked,
    }
    names = inspect.signature(make).parameters
    assert set(known) == set(BOUND)
    from_data: dict[str, Any] = {}
    if kind == "likelihood":
        from_data = {"floor": noise_floor(spec)}
        if spec.resolution:
            from_data["levels"] = spec.levels
    if kind == "prior" and context:
        from_data = {"context": context}
    arguments = {name: value for name, value in {**known, **from_data}.items() if name in names}
    return make(**{**arguments, **part.options})


def _options(kind: Kind, name: str, words: list[str]) -> dict[str, Any]:
    """Return the options that the words give; what they leave out keeps its default."""
    options = part_options(kind, name)
    given = vars(parse(options, words, f"parts {kind} {name}", prefix=f"{kind}."))
    said = {word[2:].removeprefix("no-").partition("=")[0].partition(".")[2] for word in words if word.startswith("--")}
    return {option: value for option, value in given.items() if option in {s.replace("-", "_") for s in said}}


def _settable(annotation: Any) -> Any:
    """Return the type of an option as words can give it, or None: a schedule or a part has no words."""
    kind = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    plain = [k for k in kinds if not _holds_part(k)]
    if set(plain) <= {type(None)}:
        return None
    return _annotated(Union[tuple(plain)], annotation)  # noqa: UP007


def _holds_part(kind: Any) -> bool:
    """Tell whether a type is that of a schedule or a module, or holds one."""
    if isinstance(kind, type) and issubclass(kind, Schedule | nn.Module):
        return True
    return any(_holds_part(inner) for inner in get_args(kind))


def _annotated(kind: Any, like: Any) -> Any:
    return Annotated[kind, *like.__metadata__] if hasattr(like, "__metadata__") else kind
