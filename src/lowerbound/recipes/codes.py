"""Autoencoders whose latents are codes of a book or a grid."""

from collections.abc import Callable
from typing import TypeAlias

from ..core.codes import Quantizer
from ..core.errors import ShapeError
from ..core.model import Conditional, Encoder, Network
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta
from ..groups import Coded, CodedLevel
from ..networks import MLP, ResNet, ResNetDecoder
from ..networks.conv import pyramid
from ..objectives import ELBO
from ..posteriors import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from ..posteriors.quantizers import Book
from ..priors import UniformCodes
from .parts import TRAINING, default_likelihood, mlp_encoder, steps_of_epoch

Made: TypeAlias = Callable[[tuple[int, ...]], Quantizer]


def _coded(spec: DataSpec, made: Made, halvings: int, places: int, channels: int, blocks: int) -> Recipe:
    """Return an autoencoder with codes on a grid of an image halved so often, or in a row of places."""
    image = spec.kind == "image"
    quantizer = made(pyramid(spec.shape[-2], spec.shape[-1], halvings)[-1] if image else (places,))
    likelihood = default_likelihood(spec)
    if image:
        look: Network = ResNet(spec.shape, quantizer.params, channels, blocks)
        show: Network = ResNetDecoder(quantizer.params, likelihood.params, channels, blocks)
    else:
        look = mlp_encoder(spec, Delta(quantizer.params), (channels * places,), "silu")
        show = MLP(quantizer.params, likelihood.params, (channels * places,))
    group = Coded(quantizer, _uniform(quantizer))
    decoder = Conditional(show, likelihood)
    return Recipe(spec.settle(likelihood.support), Encoder([look]), (group,), decoder, ELBO(), TRAINING)


@recipe
def vq_vae(
    spec: DataSpec,
    *,
    classes: int = 128,
    dim: int = 16,
    halvings: int = 2,
    places: int = 8,
    commitment: float = 0.25,
    book: Book = "ema",
    decay: float = 0.99,
    channels: int = 32,
    blocks: int = 1,
) -> Recipe:
    """VQ-VAE: the latent is the nearest of `classes` learned vectors at each place.

    van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv 1711.00937, eq. 1 to 3. With a uniform
    prior the rate is n log(classes) nats; for samples, and a lower rate, fit a prior to the codes (`fit-prior`).

    Args:
        spec: the data.
        classes: number of vectors.
        dim: length of each.
        halvings: how often an image is halved to get the grid of codes.
        places: number of codes where the data are no images.
        commitment: weight of what keeps the encoder near its vectors.
        book: "ema" (running means) or "gradient".
        decay: share of a running mean that a step keeps.
        channels: of the networks.
        blocks: residual blocks of each network.
    """

    def made(grid: tuple[int, ...]) -> Quantizer:
        return VectorQuantizer(grid, dim, classes, 1, commitment, book, decay, steps_of_epoch(spec))

    return _coded(spec, made, halvings, places, channels, blocks)


@recipe
def rvq_vae(
    spec: DataSpec,
    *,
    stages: int = 4,
    classes: int = 32,
    dim: int = 16,
    halvings: int = 3,
    places: int = 4,
    commitment: float = 0.25,
    book: Book = "ema",
    decay: float = 0.99,
    channels: int = 32,
    blocks: int = 1,
) -> Recipe:
    """Residual VQ-VAE: several codes at each place, each rounding what those before it left.

    Zeghidour et al. 2021, "SoundStream", arXiv 2107.03312, alg. 1; Lee et al. 2022, arXiv 2203.01941, eq. 3 to 5.
    Here each stage has a book of its own.

    Args:
        spec: the data.
        stages: number of codes at each place.
        classes: number of vectors of each stage.
        dim: length of each.
        halvings: how often an image is halved to get the grid of codes.
        places: number of places where the data are no images.
        commitment: weight of what keeps the encoder near its vectors.
        book: "ema" (running means) or "gradient".
        decay: share of a running mean that a step keeps.
        channels: of the networks.
        blocks: residual blocks of each network.
    """

    def made(grid: tuple[int, ...]) -> Quantizer:
        return VectorQuantizer(grid, dim, classes, stages, commitment, book, decay, steps_of_epoch(spec))

    return _coded(spec, made, halvings, places, channels, blocks)


@recipe
def fsq_vae(
    spec: DataSpec,
    *,
    levels: tuple[int, ...] = (5, 5, 5),
    halvings: int = 2,
    places: int = 8,
    channels: int = 32,
    blocks: int = 1,
) -> Recipe:
    """FSQ-VAE: the latent is a vector whose numbers are rounded to a few levels; it has no book that could die out.

    Mentzer et al. 2024, "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv 2309.15505, sec. 3.

    Args:
        spec: the data.
        levels: number of levels of each number of a vector; (5, 5, 5) are 125 codes.
        halvings: how often an image is halved to get the grid of codes.
        places: number of codes where the data are no images.
        channels: of the networks.
        blocks: residual blocks of each network.
    """
    return _coded(spec, lambda grid: FiniteScalarQuantizer(grid, levels), halvings, places, channels, blocks)


@recipe
def lfq_vae(
    spec: DataSpec,
    *,
    dim: int = 7,
    commitment: float = 0.25,
    entropy_weight: float = 0.1,
    halvings: int = 2,
    places: int = 8,
    channels: int = 32,
    blocks: int = 1,
) -> Recipe:
    """Lookup-free VQ-VAE: the latent is the sign of each number of a vector.

    Yu et al. 2024, "Language Model Beats Diffusion", arXiv 2310.05737, eq. 5 and 6.

    Args:
        spec: the data.
        dim: number of signs of a place; 7 are 128 codes.
        commitment: weight of what keeps the encoder near its signs.
        entropy_weight: weight of what makes each sign sure, and both signs as frequent.
        halvings: how often an image is halved to get the grid of codes.
        places: number of codes where the data are no images.
        channels: of the networks.
        blocks: residual blocks of each network.
    """

    def made(grid: tuple[int, ...]) -> Quantizer:
        return LookupFreeQuantizer(grid, dim, commitment, entropy_weight)

    return _coded(spec, made, halvings, places, channels, blocks)


@recipe
def vq_vae2(
    spec: DataSpec,
    *,
    classes: int = 128,
    dim: int = 16,
    halvings: int = 2,
    commitment: float = 0.25,
    book: Book = "ema",
    decay: float = 0.99,
    channels: int = 32,
    blocks: int = 1,
) -> Recipe:
    """VQ-VAE-2: codes at two scales, the finer ones of what the coarser leave to say.

    Razavi et al. 2019, "Generating Diverse High-Fidelity Images with VQ-VAE-2", arXiv 1906.00446, alg. 1 and fig. 2.

    Args:
        spec: the data, images.
        classes: number of vectors of each scale.
        dim: length of each.
        halvings: how often an image is halved to get the finer grid; the coarser one has half its height and width.
        commitment: weight of what keeps the encoder near its vectors.
        book: "ema" (running means) or "gradient".
        decay: share of a running mean that a step keeps.
        channels: of the networks.
        blocks: residual blocks of each network.
    """
    if spec.kind != "image":
        raise ShapeError(f"{spec.name} has no images", expected="images", fix="use `vq_vae`")
    grids = pyramid(spec.shape[-2], spec.shape[-1], halvings + 1)[-2:]
    fine, coarse = (
        VectorQuantizer(grid, dim, classes, 1, commitment, book, decay, steps_of_epoch(spec)) for grid in grids
    )
    low, likelihood = (channels, *grids[0]), default_likelihood(spec)
    up = [ResNet(spec.shape, low, channels, blocks), ResNet(low, coarse.params, channels, blocks)]
    groups = (Coded(coarse, _uniform(coarse)), _finer(fine, coarse, channels, blocks))
    decoder = ResNetDecoder((dim + channels, *grids[0]), likelihood.params, channels, blocks)
    settled, encoder = spec.settle(likelihood.support), Encoder(up, uses=(1, 0))
    return Recipe(settled, encoder, groups, Conditional(decoder, likelihood), ELBO(), TRAINING)


def _finer(fine: Quantizer, coarse: Quantizer, channels: int, blocks: int) -> CodedLevel:
    """Return the group of codes on a grid below a coarser one."""
    low = (channels, *fine.places)
    above = ResNet(coarse.params, low, channels, blocks)
    return CodedLevel(fine, _uniform(fine), above, ResNet((2 * channels, *fine.places), fine.params, channels, blocks))


def _uniform(quantizer: Quantizer) -> UniformCodes:
    return UniformCodes(quantizer.codes_shape, quantizer.classes)
