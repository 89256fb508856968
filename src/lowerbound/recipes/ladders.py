"""Several levels of latents that are vectors: stacked, or as a ladder that shares its way down."""

from collections.abc import Sequence
from itertools import pairwise

from ..core.errors import UsageError
from ..core.model import Conditional, Encoder
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, Normal
from ..groups import Flat, Level, Stacked
from ..networks import MLP, Activation
from ..objectives import ELBO
from ..posteriors import PrecisionWeighted
from ..priors import StandardNormal
from .parts import TRAINING, default_likelihood, guarded, mlp_encoder


@recipe
def two_layer_vae(
    spec: DataSpec,
    *,
    latent_dims: tuple[int, ...] = (20, 40),
    num_samples: int = 1,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE of stacked layers, inferred from the bottom up: q(z_1|x) q(z_2|z_1), and p(z_2) p(z_1|z_2) p(x|z_1).

    Burda et al. 2016, arXiv 1509.00519, fig. 1b and sec. 5; Rezende et al. 2014, arXiv 1401.4082, eq. 5. Any number of
    layers. Layers above the first are often left unused. They are one group: their rate is one number.

    Args:
        spec: the data.
        latent_dims: dimensions of each layer, top to bottom; the decoder reads the last.
        num_samples: K of the bound that is averaged.
        hidden: widths of the hidden layers of the lowest encoder; the decoder has them reversed, other layers the last.
        activation: activation of the hidden layers.
    """
    families = [Normal((d,)) for d in _several(latent_dims)]
    up, down = (_chained(of, hidden[-1:], activation) for of in (families[::-1], families))
    group = Stacked(families[-1], up, StandardNormal(families[0].event_shape), down)
    likelihood = default_likelihood(spec)
    network = MLP(families[-1].event_shape, likelihood.params, hidden[::-1], activation)
    encoder = Encoder([mlp_encoder(spec, families[-1], hidden, activation)])
    settled, objective = spec.settle(likelihood.support), ELBO(num_samples=num_samples)
    return Recipe(settled, encoder, (group,), Conditional(network, likelihood), objective, TRAINING)


def _chained(families: Sequence[Normal], hidden: tuple[int, ...], activation: Activation) -> list[Conditional]:
    """Return a normal of each family but the first, given the value of the one before it."""
    return [Conditional(MLP(a.event_shape, b.params, hidden, activation), b) for a, b in pairwise(families)]


@recipe
def ladder_vae(
    spec: DataSpec,
    *,
    latent_dims: tuple[int, ...] = (8, 16, 32),
    free_nats: float = 0.5,
    warm_up_steps: int | None = None,
    hidden: int = 256,
    activation: Activation = "silu",
) -> Recipe:
    """Ladder VAE: each level weighs what it sees and what the level above expects by their precisions.

    Sonderby et al. 2016, arXiv 1602.02282, eq. 18 and 19, with their warm-up but without batch normalisation: in its
    place every level may use some nats for nothing (free bits: Kingma et al. 2016, arXiv 1606.04934, eq. 15).

    Args:
        spec: the data.
        latent_dims: dimensions of each level, top to bottom; the decoder reads the last.
        free_nats: nats that each level may use for nothing; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
        hidden: width of all hidden layers.
        activation: activation of the hidden layers.
    """
    families = [Normal((d,)) for d in _several(latent_dims)]
    top, *others = families
    below = [_of_vectors(a, b, hidden, activation) for a, b in pairwise(families)]
    likelihood = default_likelihood(spec)
    network = MLP(families[-1].event_shape, likelihood.params, (hidden, hidden), activation)
    return Recipe(
        spec.settle(likelihood.support),
        _upwards(spec, top, len(others), hidden, activation),
        (Flat(top, StandardNormal(top.event_shape)), *below),
        Conditional(network, likelihood),
        guarded(spec, free_nats, warm_up_steps),
        TRAINING,
    )


def _of_vectors(above: Normal, family: Normal, hidden: int, activation: Activation) -> Level:
    """Return a level of vectors below another: both its normals from one hidden layer, weighed by their precisions."""
    p = Conditional(MLP(above.event_shape, family.params, (hidden,), activation), family)
    return Level(p, family, PrecisionWeighted(), MLP((hidden,), family.params, (hidden,), activation))


def _upwards(spec: DataSpec, top: Normal, levels: int, hidden: int, activation: Activation) -> Encoder:
    """Return the way up: a vector for each of so many levels, and then the top's parameters."""
    first = mlp_encoder(spec, Delta((hidden,)), (hidden,), activation)
    more = [MLP((hidden,), (hidden,), (hidden,), activation) for _ in range(levels - 1)]
    up = [first, *more, MLP((hidden,), top.params, (hidden,), activation)]
    return Encoder(up, uses=tuple(range(len(up)))[::-1])


def _several(latent_dims: tuple[int, ...]) -> tuple[int, ...]:
    if len(latent_dims) < 2 or any(not isinstance(d, int) or d < 1 for d in latent_dims):
        raise UsageError(
            f"the dimensions of several levels cannot be {latent_dims}", expected="two or more whole numbers above 0"
        )
    return latent_dims
