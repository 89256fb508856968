"""Ladders of latents that are images, at several scales."""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ..core.errors import ShapeError, UsageError
from ..core.model import Conditional, Encoder, Group, Network, Relation
from ..core.objective import Objective
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import FixedNormal, Normal
from ..groups import Level, LowFrequencies, Top
from ..networks import Activation, Passing, ResNet, Unchanged
from ..networks.conv import pyramid
from ..networks.resnet import Cell
from ..objectives import ELBO, Balanced, SpectralPenalty
from ..posteriors import Direct, Residual
from ..priors import Diffusion, StandardNormal
from .parts import TRAINING, default_likelihood, guarded


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
    ladder = _Images(spec, levels, latent_channels, channels, blocks, activation)
    return ladder.from_normal(guarded(spec, free_nats, warm_up_steps))


@recipe
def nvae(
    spec: DataSpec,
    *,
    levels: tuple[int, ...] = (2, 1),
    latent_channels: int = 4,
    channels: int = 16,
    blocks: int = 1,
    spectral_weight: float = 0.01,
    free_nats: float = 0.0,
    warm_up_steps: int | None = None,
    activation: Activation = "silu",
) -> Recipe:
    """NVAE: a ladder of images whose posteriors change the prior, of separable cells kept smooth by a penalty.

    Vahdat & Kautz 2020, arXiv 2007.03898: residual normal posteriors (eq. 2), cells with 5 x 5 convolutions of each
    channel alone, squeeze and excitation and Swish (fig. 3), spectral regularisation and warm-up (sec. 3.2), in which
    the levels' KLs are balanced (appendix A). Without their batch and weight normalisation (branches start small
    instead), and without flows, which they leave out on MNIST, too.

    Args:
        spec: the data, images.
        levels: number of levels at each scale, top (smallest) to bottom; each scale has twice the height and width.
        latent_channels: channels of each level's latent.
        channels: of the state and inside the networks; separable cells have 6 times as many.
        blocks: cells of each network.
        spectral_weight: weight of the sum of the convolutions' largest singular values, that of the authors for
            MNIST (on the digits 0.1 leaves the latents unused); 0 for none.
        free_nats: nats that each level may use for nothing, in place of the balance; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
        activation: activation of the networks.
    """
    objective = guarded(spec, free_nats, warm_up_steps)
    if isinstance(objective, ELBO):
        objective = Balanced(sum(levels), objective.beta)
    if spectral_weight:
        objective = SpectralPenalty(objective, spectral_weight)
    cells = ("squeezed", "separable")
    ladder = _Images(spec, levels, latent_channels, channels, blocks, activation, *cells, Residual())
    return ladder.from_normal(objective)


@recipe
def dvp_vae(
    spec: DataSpec,
    *,
    levels: tuple[int, ...] = (2, 1),
    latent_channels: int = 4,
    channels: int = 24,
    blocks: int = 1,
    frequencies: int | None = None,
    noise: float = 0.05,
    diffusion_steps: int = 25,
    diffusion_hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "silu",
) -> Recipe:
    """DVP-VAE: a ladder of images below the low frequencies of x, whose prior is a diffusion model.

    Kuzina & Tomczak 2024, arXiv 2412.01373, sec. 4: the top latent u, a pseudo-input, is x's discrete cosine transform
    cut to the lowest frequencies, with a little noise. Every level below reads the image of u beside the state. The
    bound on log p(u) of the diffusion model stands in the ELBO, which remains a bound on log p(x). Its network is an
    MLP where theirs is a U-Net; the noise of q(u|x) is set where their code learns it; no warm-up, as there.

    Args:
        spec: the data, images.
        levels: number of levels at each scale, top (smallest) to bottom; each scale has twice the height and width.
        latent_channels: channels of each level's latent.
        channels: of the state and inside the networks.
        blocks: residual blocks of each network.
        frequencies: k of the k x k lowest frequencies; None: a quarter of the image's height and of its width.
        noise: standard deviation of q(u|x), where the largest coefficient of each frequency is 1.
        diffusion_steps: steps in which the prior of u takes noise away.
        diffusion_hidden: widths of the hidden layers of its network.
        activation: activation of the networks.
    """
    colours, *sides = spec.shape
    ladder = _Images(spec, levels, latent_channels, channels, blocks, activation, passed=colours)
    sizes = ladder.sizes()
    u = FixedNormal((colours, *(max(1, side // 4) if frequencies is None else frequencies for side in sides)), noise)
    down = Passing(ladder.network((colours, *sizes[0]), (channels, *sizes[0])), colours)
    prior = Diffusion(u.event_shape, diffusion_hidden, diffusion_steps)
    top = LowFrequencies(u, prior, (colours, *sides), down)
    return ladder.below(ELBO(), [Unchanged(spec.shape), *ladder.seen()], 0, top, sizes)


class _Images(NamedTuple):
    """A ladder of images: its data, its levels, and what its networks are made of.

    `passed` is the number of the state's last channels, which all levels read and none changes.
    """

    spec: DataSpec
    levels: tuple[int, ...]
    latent_channels: int
    channels: int
    blocks: int
    activation: Activation
    up: Cell = "residual"
    down: Cell = "residual"
    relation: Relation = Direct()
    passed: int = 0

    def sizes(self) -> list[tuple[int, int]]:
        """Return the height and width of each level, top to bottom."""
        spec, levels = self.spec, self.levels
        if not levels or any(not isinstance(n, int) or n < 1 for n in levels):
            raise UsageError(f"the levels cannot be {levels}", expected="at least 1 at each scale, such as (2, 1)")
        if spec.kind != "image":
            raise ShapeError(
                f"{spec.name} has no images", expected="images", fix="use `ladder_vae`, whose levels are vectors"
            )
        scales = pyramid(spec.shape[-2], spec.shape[-1], len(levels))[:0:-1]
        return [size for size, count in zip(scales, levels, strict=True) for _ in range(count)]

    def network(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], cell: Cell | None = None) -> ResNet:
        """Return a network of the way down, or of another cell."""
        return ResNet(in_shape, out_shape, self.channels, self.blocks, self.activation, cell or self.down)

    def seen(self) -> list[Network]:
        """Return the networks from x to the largest scale, and from each scale to the next smaller one."""
        height, width = self.spec.shape[-2:]
        states = [(self.channels, *size) for size in pyramid(height, width, len(self.levels))[1:]]
        return [self.network(a, b, self.up) for a, b in pairwise((self.spec.shape, *states))]

    def from_normal(self, objective: Objective) -> Recipe:
        """Return the ladder below a top level of the same kind, with the prior N(0, I)."""
        first, *sizes = self.sizes()
        family, up = Normal((self.latent_channels, *first)), self.seen()
        up.append(self.network(up[-1].out_shape, family.params, self.up))
        down = self.network(family.event_shape, (self.channels, *(sizes or [first])[0]))
        top = Top(family, StandardNormal(family.event_shape), down)
        return self.below(objective, up, len(up) - 1, top, sizes)

    def below(
        self, objective: Objective, up: list[Network], first: int, top: Group, sizes: list[tuple[int, int]]
    ) -> Recipe:
        """Return the ladder of a top group, which reads network `first` of the chain `up`, and levels of such sizes."""
        shapes = [network.out_shape for network in up]
        uses = (first, *(shapes.index((self.channels, *size)) for size in sizes))
        last = sizes[-1] if sizes else self.sizes()[-1]
        levels = [self.level(size, following) for size, following in zip(sizes, (*sizes[1:], last), strict=False)]
        likelihood = default_likelihood(self.spec)
        decoder = Conditional(self.network((self.channels + self.passed, *last), likelihood.params), likelihood)
        settled, training = self.spec.settle(likelihood.support), replace(TRAINING, clip=200.0)
        return Recipe(settled, Encoder(up, uses), (top, *levels), decoder, objective, training)

    def level(self, size: tuple[int, int], following: tuple[int, int]) -> Level:
        """Return one level, whose state is made as large as the level that follows."""
        family, state = Normal((self.latent_channels, *size)), self.channels + self.passed
        p = Conditional(self.network((state, *size), family.params), family)
        looks = self.network((self.channels + state, *size), family.params)
        down: Network = self.network((self.latent_channels + state, *size), (self.channels, *following))
        down = Passing(down, self.passed) if self.passed else down
        return Level(p, family, self.relation, looks, down, sees_state=True)
