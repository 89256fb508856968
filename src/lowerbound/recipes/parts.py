"""Defaults that several recipes share: the likelihood that suits the data, the parts of an MLP VAE."""

from math import ceil, sqrt
from typing import Literal, NamedTuple, TypeAlias

from ..core.errors import Incompatible, UsageError
from ..core.model import Conditional, Encoder, Family, Network
from ..core.objective import Objective, Schedule
from ..core.recipe import Recipe, Training
from ..core.spec import DataSpec
from ..families import (
    Bernoulli,
    Columns,
    DiscretizedLogistic,
    FixedNormal,
    Modalities,
    NegativeBinomial,
    Normal,
    OneHot,
    PerDimensionNormal,
    SharedNormal,
)
from ..groups import Flat, Prior
from ..networks import MLP, Activation, ColumnInputs, LogCounts
from ..networks.columns import width_of
from ..objectives import ELBO, FreeBits
from ..priors import StandardNormal
from ..train.schedules import Linear

Variance: TypeAlias = Literal["fixed", "shared", "per_dim", "network"]
FLOOR = 1e-3
TRAINING = Training(epochs=25, batch_size=128, lr=2e-3, lr_schedule="cosine")


def default_likelihood(spec: DataSpec) -> Family:
    """Bernoulli for binary data and grey images (binarised anew in each batch), else Normal with a shared variance.

    Counts get a negative binomial with a dispersion for each column.

    8-bit colour images get a discretised logistic with one learned scale, a probability of each of the 256 levels.

    Mixed columns of a table get one distribution each (`Columns`), modalities each the likelihood of its own kind, and
    labels among them a categorical one. Grey images kept grey (`binarize="none"`) are real
    values, so they get the Normal too.
    """
    if spec.modalities:
        return Modalities(tuple(default_likelihood(m.spec) for m in spec.modalities))
    if spec.scored_support == "onehot":
        return OneHot(spec.shape)
    if spec.scored_support == "mixed":
        return columns_likelihood(spec)
    if spec.scored_support == "symbols":
        raise Incompatible(
            f"{spec.name} holds sequences of symbols, whose numbers are in no order",
            where="sequences x likelihood",
            fix="use the recipe `sequence_vae`",
        )
    if spec.scored_support == "count":
        return NegativeBinomial(spec.shape)
    if spec.scored_support == "binary" or (spec.grey and spec.binarize != "none"):
        return Bernoulli(spec.shape)
    if spec.kind == "image" and spec.shape[0] >= 3 and spec.scored_support == "levels":
        return DiscretizedLogistic(spec.shape, levels_of(spec))
    return SharedNormal(spec.shape, noise_floor(spec))


def columns_likelihood(spec: DataSpec) -> Columns:
    """Return one distribution for each column; no sigma falls below that of rounding to the column's step."""
    floors = (max(FLOOR, c.step / (c.scale * sqrt(12))) for c in spec.modelled if c.real)
    return Columns(tuple(c.size for c in spec.modelled), tuple(floors))


def levels_of(spec: DataSpec) -> int:
    """Return the number of evenly spaced levels of the data's values: 256 for 8-bit pixels, and where none is known."""
    return spec.levels or 256


def noise_floor(spec: DataSpec) -> float:
    """The smallest standard deviation a likelihood may learn: that of rounding to the data's resolution, or 0.001."""
    return spec.resolution / sqrt(12) if spec.resolution else FLOOR


def normal_likelihood(spec: DataSpec, variance: Variance, scale: float) -> Family:
    """Return the Normal of that variance: set to scale^2, one learned, one for each dimension, or from a network."""
    floor = noise_floor(spec)
    if variance == "fixed":
        return FixedNormal(spec.shape, scale)
    if variance == "network":
        return Normal(spec.shape, floor=floor)
    learned = {"shared": SharedNormal, "per_dim": PerDimensionNormal}
    if variance not in learned:
        raise UsageError(f"there is no variance {variance!r}", expected="fixed, shared, per_dim or network")
    return learned[variance](spec.shape, floor)


def steps_of_epoch(spec: DataSpec) -> int:
    """Return the optimiser steps of one epoch in batches of `TRAINING`."""
    return ceil(spec.size / TRAINING.batch_size)


def half_of_training(spec: DataSpec) -> int:
    """Return half the optimiser steps of `TRAINING`: by then what grows has grown, whatever the size of the data."""
    return max(1, TRAINING.epochs * steps_of_epoch(spec) // 2)


def warm_up(beta: float, steps: int) -> float | Schedule:
    """Return beta, or a linear schedule from 0 to beta over `steps` optimiser steps."""
    return Linear(0.0, beta, steps) if steps else beta


def guarded(spec: DataSpec, free_nats: float, warm_up_steps: int | None) -> Objective:
    """Return the ELBO whose rate warms up, with nats that are free for each level: what keeps levels in use."""
    beta = warm_up(1.0, half_of_training(spec) if warm_up_steps is None else warm_up_steps)
    return FreeBits(free_nats, per="group", beta=beta) if free_nats else ELBO(beta=beta)


def mlp_encoder(
    spec: DataSpec, posterior: Family, hidden: tuple[int, ...], activation: Activation, condition: int = 0
) -> Network:
    """Return an MLP from an example to q's parameters; of a table it sees categories one-hot, and the mask.

    Of counts it sees log(1 + x), unless it has no hidden layer: a linear encoder stays linear.
    """
    sizes = tuple(c.size for c in spec.modelled)
    if spec.modalities or (spec.support != "mixed" and not spec.masked):
        network: Network = MLP(spec.shape, posterior.params, hidden, activation, condition=condition)
    else:
        width = width_of(sizes, masked=spec.masked)
        inside = MLP((width,), posterior.params, hidden, activation, condition=condition)
        network = ColumnInputs(inside, sizes, masked=spec.masked)
    return LogCounts(network) if spec.support == "count" and hidden else network


class FlatParts(NamedTuple):
    """The three parts of a flat VAE, as `Recipe(spec, *parts)` takes them."""

    encoder: Encoder
    groups: tuple[Flat, ...]
    decoder: Conditional


def mlp_parts(
    spec: DataSpec,
    posterior: Family,
    likelihood: Family,
    hidden: tuple[int, ...],
    activation: Activation = "silu",
    prior: Prior | None = None,
) -> FlatParts:
    """Return an MLP encoder, a flat group (prior N(0, I) unless given), and an MLP decoder with the layers reversed."""
    encoder = mlp_encoder(spec, posterior, hidden, activation)
    decoder = MLP(posterior.event_shape, likelihood.params, hidden[::-1], activation)
    group = Flat(posterior, prior or StandardNormal(posterior.event_shape))
    return FlatParts(Encoder([encoder]), (group,), Conditional(decoder, likelihood))


def mlp_recipe(
    spec: DataSpec,
    posterior: Family,
    objective: Objective,
    hidden: tuple[int, ...],
    activation: Activation,
    likelihood: Family | None = None,
    prior: Prior | None = None,
) -> Recipe:
    """Return the recipe of an MLP VAE; the likelihood follows the data and the prior is N(0, I) unless given."""
    scores = likelihood or default_likelihood(spec)
    parts = mlp_parts(spec, posterior, scores, hidden, activation, prior)
    return Recipe(spec.settle(scores.support), *parts, objective, TRAINING)
