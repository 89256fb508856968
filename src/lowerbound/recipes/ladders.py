"""Several levels of latents: stacked, or as a ladder that shares its way down."""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ..core.errors import ShapeError, UsageError
from ..core.model import Conditional, Encoder, Group, Relation
from ..core.objective import Objective
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, Normal
from ..groups import Flat, Level, Stacked, Top
from ..networks import MLP, Activation, ResNet
from ..networks.conv import pyramid
from ..networks.resnet import Cell
from ..objectives import ELBO, SpectralPenalty
from ..posteriors import Direct, PrecisionWeighted, Residual
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
    layers. Layers above the first are often left unused: `lowerbound doctor` says how much each carries.

    Args:
        spec: the data.
        latent_dims: dimensions of each layer, top to bottom; the decoder reads the last.
        num_samples: K of the bound that is averaged.
        hidden: widths of the hidden layers of the lowest encoder; the decoder has them reversed, other layers the last.
        activation: activation of the hidden layers.
    """
    families = [Normal((d,)) for d in _several(latent_dims)]
    between = hidden[-1:]

    def layer(given: Normal, made: Normal) -> Conditional:
        return Conditional(MLP(given.event_shape, made.params, between, activation), made)

    low = families[-1]
    group = Stacked(
        low,
        [layer(a, b) for a, b in pairwise(families[::-1])],
        StandardNormal(families[0].event_shape),
        [layer(a, b) for a, b in pairwise(families)],
    )
    likelihood = default_likelihood(spec)
    decoder = Conditional(MLP(low.event_shape, likelihood.params, hidden[::-1], activation), likelihood)
    encoder = Encoder([mlp_encoder(spec, low, hidden, activation)])
    settled = spec.settle(likelihood.support)
    return Recipe(settled, encoder, (group,), decoder, ELBO(num_samples=num_samples), TRAINING)


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


@recipe
def vdvae(
    spec: DataSpec,
    *,
    levels: tuple[int, ...] = (2, 1),
    latent_channels: int = 4,
    channels: int = 24,
    blocks: int = 1,
    free_nats: float = 0.0,
    warm_up_steps: int | None = None,
    activation: Activation = "silu",
) -> Recipe:
    """Very deep VAE: latents that are images, at several scales, which read and change one state on the way down.

    Child 2021, arXiv 2011.10650, sec. 3 and fig. 3: priors and posteriors from residual networks, images enlarged by
    repeating pixels, the last layers of blocks started small, gradients clipped. `--skip-above` leaves out steps with
    a very large gradient, as there.

    Args:
        spec: the data, images.
        levels: number of levels at each scale, top (smallest) to bottom; each scale has twice the height and width.
        latent_channels: channels of each level's latent.
        channels: of the state and inside the networks.
        blocks: residual blocks of each network.
        free_nats: nats that each level may use for nothing; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
        activation: activation of the networks.
    """
    style = _Style(channels, blocks, activation)
    return _of_images(spec, guarded(spec, free_nats, warm_up_steps), levels, latent_channels, style)


@recipe
def nvae(
    spec: DataSpec,
    *,
    levels: tuple[int, ...] = (2, 1),
    latent_channels: int = 4,
    channels: int = 16,
    blocks: int = 1,
    spectral_weight: float = 0.1,
    free_nats: float = 0.0,
    warm_up_steps: int | None = None,
    activation: Activation = "silu",
) -> Recipe:
    """NVAE: a ladder of images whose posteriors change the prior, of separable cells kept smooth by a penalty.

    Vahdat & Kautz 2020, arXiv 2007.03898: residual normal posteriors (eq. 2), cells with 5 x 5 convolutions of each
    channel alone, squeeze and excitation and Swish (fig. 3), spectral regularisation and warm-up (sec. 3.2). Without
    their batch normalisation (branches start small instead), flows and balancing of the groups' KL.

    Args:
        spec: the data, images.
        levels: number of levels at each scale, top (smallest) to bottom; each scale has twice the height and width.
        latent_channels: channels of each level's latent.
        channels: of the state and inside the networks; separable cells have 6 times as many.
        blocks: cells of each network.
        spectral_weight: weight of the sum of the convolutions' largest singular values in the loss; 0 for none.
        free_nats: nats that each level may use for nothing; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
        activation: activation of the networks.
    """
    objective = guarded(spec, free_nats, warm_up_steps)
    if spectral_weight:
        objective = SpectralPenalty(objective, spectral_weight)
    style = _Style(channels, blocks, activation, "squeezed", "separable", Residual())
    return _of_images(spec, objective, levels, latent_channels, style)


class _Style(NamedTuple):
    """What the networks of a ladder of images are made of, and how its posteriors read its priors."""

    channels: int
    blocks: int
    activation: Activation
    up: Cell = "residual"
    down: Cell = "residual"
    relation: Relation = Direct()


def _of_images(
    spec: DataSpec, objective: Objective, levels: tuple[int, ...], latent_channels: int, style: _Style
) -> Recipe:
    """Return a ladder of image latents: one scale for each number of levels, the smallest first."""
    if not levels or any(not isinstance(n, int) or n < 1 for n in levels):
        raise UsageError(f"the levels cannot be {levels}", expected="at least 1 at each scale, such as (2, 1)")
    if spec.kind != "image":
        raise ShapeError(
            f"{spec.name} has no images", expected="images", fix="use `ladder_vae`, whose levels are vectors"
        )
    scales = pyramid(spec.shape[-2], spec.shape[-1], len(levels))[:0:-1]
    places = [size for size, count in zip(scales, levels, strict=True) for _ in range(count)]
    families = [Normal((latent_channels, *size)) for size in places]

    def network(in_shape: tuple[int, ...], out_shape: tuple[int, ...], cell: Cell = style.down) -> ResNet:
        return ResNet(in_shape, out_shape, style.channels, style.blocks, style.activation, cell)

    channels = style.channels
    states = [(channels, *size) for size in scales]
    up = [network(a, b, style.up) for a, b in pairwise((spec.shape, *states[::-1]))]
    up.append(network(states[0], families[0].params, style.up))
    uses = [len(up) - 1, *(scales[::-1].index(size) for size in places[1:])]
    below = [(channels, *size) for size in (*places[1:], places[-1])]
    groups: list[Group] = [
        Top(families[0], StandardNormal(families[0].event_shape), network(families[0].event_shape, below[0]))
    ]
    for family, size, following in zip(families[1:], places[1:], below[1:], strict=True):
        p = Conditional(network((channels, *size), family.params), family)
        looks = network((2 * channels, *size), family.params)
        down = network((latent_channels + channels, *size), following)
        groups.append(Level(p, family, style.relation, looks, down, sees_state=True))
    likelihood = default_likelihood(spec)
    decoder = Conditional(network(below[-1], likelihood.params), likelihood)
    settled, training = spec.settle(likelihood.support), replace(TRAINING, clip=200.0)
    return Recipe(settled, Encoder(up, uses), tuple(groups), decoder, objective, training)


def _several(latent_dims: tuple[int, ...]) -> tuple[int, ...]:
    if len(latent_dims) < 2 or any(not isinstance(d, int) or d < 1 for d in latent_dims):
        raise UsageError(
            f"the dimensions of several levels cannot be {latent_dims}", expected="two or more whole numbers above 0"
        )
    return latent_dims
