"""A recipe with other parts: its networks are made anew for what the new parts need."""

from typing import Any

from torch import nn

from .errors import Incompatible
from .model import Conditional, Encoder, Family, Network
from .noise import Stream, seeded
from .objective import Objective
from .recipe import Recipe
from .record import arguments_of, describe, rebuild
from .spec import DataSpec


def composed(
    recipe: Recipe,
    *,
    likelihood: Family | None = None,
    posterior: Family | None = None,
    prior: nn.Module | None = None,
    objective: Objective | None = None,
    spec: DataSpec | None = None,
) -> Recipe:
    """Return the recipe with some of its parts replaced; the rules are checked anew.

    Encoder and decoder keep their kind and hidden layers and get the widths that the new families read. An objective
    that wraps another (`Corrupt`) keeps its place around the new one.

    Args:
        recipe: a recipe with one latent group.
        likelihood: family of p(x|z).
        posterior: family of q(z|x); z may have another shape, if the prior has it too.
        prior: p(z).
        objective: what is optimised.
        spec: the data's own spec, by which the binarisation is settled for the likelihood; None keeps the recipe's.

    Raises:
        Incompatible: if the recipe has several groups, or the parts cannot mean anything together.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> recipe = lb.recipes.vae(data.spec, latent_dim=4, hidden=(32,))
    >>> composed(recipe, likelihood=lb.families.SharedNormal(data.spec.shape), spec=data.spec).spec.binarize
    'none'
    """
    changes: dict[str, Any] = {}
    with seeded(Stream.WEIGHTS, 0):
        if posterior is not None or prior is not None:
            changes |= _with_latents(recipe, posterior, prior)
        if likelihood is not None:
            network = changes.get("decoder", recipe.decoder).network
            changes["decoder"] = Conditional(resized(network, out_shape=likelihood.params), likelihood)
            if spec is not None:
                changes["spec"] = spec.settle(likelihood.support)
        if objective is not None:
            changes["objective"] = _inside(recipe.objective, objective)
        return recipe.replace(**changes)


def resized(
    network: Network, *, in_shape: tuple[int, ...] | None = None, out_shape: tuple[int, ...] | None = None
) -> Network:
    """Return a network of the same kind with fresh weights and another input or output shape.

    A network around another passes the change on to it.

    >>> from lowerbound.networks import MLP
    >>> resized(MLP((5,), (3,), hidden=(7,)), out_shape=(2, 4)).out_shape
    (2, 4)
    """
    arguments = arguments_of(network)
    if any(isinstance(value, tuple) and any(isinstance(n, Network) for n in value) for value in arguments.values()):
        raise Incompatible(
            f"the networks of a {type(network).__name__} are made for its modalities, and cannot be made anew for "
            "another likelihood or posterior",
            where="part x modalities",
            expected="another prior or objective alone",
        )
    inner = {name: value for name, value in arguments.items() if isinstance(value, Network)}
    if inner:
        changed = {name: resized(value, in_shape=in_shape, out_shape=out_shape) for name, value in inner.items()}
    else:
        shapes = {"in_shape": in_shape, "out_shape": out_shape}
        changed = {name: tuple(shape) for name, shape in shapes.items() if shape is not None}
    return _again(type(network).__name__, {**arguments, **changed})


def _with_latents(recipe: Recipe, posterior: Family | None, prior: nn.Module | None) -> dict[str, Any]:
    """Return encoder, groups and decoder for another posterior or prior."""
    arguments = arguments_of(recipe.groups[0])
    if len(recipe.groups) != 1 or not {"posterior_family", "prior_part"} <= set(arguments):
        raise Incompatible(
            f"the latents of {recipe.name} are {len(recipe.groups)} groups made for each other",
            where="posterior and prior of a recipe",
            expected="a recipe with one latent group, such as vae",
        )
    before: Family = arguments["posterior_family"]
    family = before if posterior is None else posterior
    part = arguments["prior_part"] if prior is None else prior
    changes: dict[str, Any] = {}
    if posterior is not None:
        networks = [n for n in recipe.encoder.networks if isinstance(n, Network)]
        changes["encoder"] = Encoder([resized(networks[0], out_shape=family.params)])
    if family.state_shape != before.state_shape:
        network = resized(recipe.decoder.network, in_shape=family.state_shape)
        changes["decoder"] = Conditional(network, recipe.decoder.family)
    shape = tuple(getattr(part, "event_shape", family.prior_shape))
    if shape != family.prior_shape:
        raise Incompatible(
            f"a {type(part).__name__} of z with shape {shape} cannot be used with a {type(family).__name__} posterior "
            f"of shape {family.prior_shape}",
            where="shape of posterior x prior",
            fix="give a prior for this posterior, too",
        )
    kind = type(recipe.groups[0]).__name__
    kind = family.grouped if kind == before.grouped else kind
    group = _again(kind, {**arguments, "posterior_family": family, "prior_part": part})
    return {**changes, "groups": (group,)}


def _inside(wrapper: Objective, objective: Objective) -> Objective:
    """Return `objective` inside of `wrapper`, if that wraps one."""
    arguments = arguments_of(wrapper)
    inner = arguments.get("objective")
    if not isinstance(inner, Objective):
        return objective
    return _again(type(wrapper).__name__, {**arguments, "objective": _inside(inner, objective)})


def _again(kind: str, arguments: dict[str, Any]) -> Any:
    """Return a part of a kind made with other arguments."""
    return rebuild({"part": kind, "args": {name: describe(v) for name, v in arguments.items()}})
