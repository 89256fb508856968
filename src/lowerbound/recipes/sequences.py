"""Decoders that read what they have made so far: sequences of symbols, images pixel by pixel."""

from math import prod

from ..core.errors import Incompatible, ShapeError
from ..core.model import Conditional, Encoder, Family, Network
from ..core.recipe import Recipe, Training, recipe
from ..core.spec import DataSpec
from ..families import AutoregressivePixels, Categorical, Normal, Symbols
from ..groups import Flat
from ..networks import MLP, Activation, ConvDecoder, ConvEncoder, PixelCNN, Recurrent, SequenceEncoder, Transformer
from ..networks.sequences import Reader
from ..priors import StandardNormal
from .parts import TRAINING, default_likelihood, guarded

FEW_LEVELS = 32  # up to which each level of a pixel has a probability of its own


@recipe
def sequence_vae(
    spec: DataSpec,
    *,
    reader: Reader = "gru",
    latent_dim: int = 16,
    width: int = 64,
    layers: int = 1,
    heads: int = 4,
    word_dropout: float = 0.25,
    free_nats: float = 2.0,
    warm_up_steps: int | None = None,
) -> Recipe:
    """VAE of sequences: the encoder reads one whole, the decoder scores each symbol given z and those before it.

    Bowman et al. 2016, "Generating Sentences from a Continuous Space", arXiv 1511.06349, there with an LSTM. Three
    things keep z in use where symbols before tell enough: symbols are hidden from the decoder in training (sec. 3.2
    there; the training's own numbers are then of a model that sees less), the rate's weight grows (sec. 3.1), and some
    nats are free (Kingma et al. 2016, arXiv 1606.04934, eq. 15). Images of 0/1 pixels or of levels are read row by row.

    Args:
        spec: the data: sequences, or images of 0/1 pixels or of levels.
        reader: what encoder and decoder are: "gru" (recurrent) or "transformer" (causal in the decoder).
        latent_dim: number of latent dimensions.
        width: of embeddings and hidden layers.
        layers: of the decoder, and of a transformer's encoder.
        heads: of a transformer's attention.
        word_dropout: probability that a symbol is hidden from the decoder, in training.
        free_nats: nats that z may use for nothing; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
    """
    symbols, scale, ends = _alphabet(spec)
    posterior, places = Normal((latent_dim,)), spec.dims + ends
    shapes = ((places,), (places, symbols + ends), symbols + 2)
    if reader == "transformer":
        network: Network = Transformer(*shapes, width=width, heads=heads, layers=layers, context=width)
    else:
        network = Recurrent(*shapes, width=width, layers=layers, context=width)
    likelihood = Symbols(spec.shape, symbols, network, scale, word_dropout, ends=ends)
    encoder = SequenceEncoder(spec.shape, posterior.params, symbols, reader, scale, width, layers, heads, ends=ends)
    decoder = MLP((latent_dim,), likelihood.params, (width,), "silu")
    group = Flat(posterior, StandardNormal(posterior.event_shape))
    settled, objective = spec.settle(likelihood.support), guarded(spec, free_nats, warm_up_steps)
    training = Training(epochs=TRAINING.epochs, batch_size=TRAINING.batch_size, lr=TRAINING.lr, clip=5.0)
    return Recipe(settled, Encoder([encoder]), (group,), Conditional(decoder, likelihood), objective, training)


def _alphabet(spec: DataSpec) -> tuple[int, int, bool]:
    """Return how many symbols the data have, what their values are multiplied by to be numbered, and if they end."""
    if spec.support == "symbols":
        return len(spec.vocabulary), 1, True
    if spec.settle("binary").scored_support == "binary":
        return 2, 1, False
    if spec.scored_support == "levels":
        return spec.levels, spec.levels - 1, False
    raise Incompatible(
        f"{spec.name} has {spec.scored_support} values, which are no symbols",
        where="symbols x values",
        expected="sequences, or images of 0/1 pixels or of levels",
        fix="make sequences by lowerbound.from_sequences, or use another recipe, such as `vae`",
    )


@recipe
def pixel_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 16,
    channels: tuple[int, ...] = (16, 32),
    pixel_channels: int = 16,
    pixel_blocks: int = 2,
    free_nats: float = 2.0,
    warm_up_steps: int | None = None,
    activation: Activation = "silu",
) -> Recipe:
    """PixelVAE: each pixel is scored given z and the pixels before it, of which the decoder sees those near by.

    Gulrajani et al. 2017, "PixelVAE: A Latent Variable Model for Natural Images", arXiv 1611.05013, sec. 3.1, with the
    gated layers of van den Oord et al. 2016, arXiv 1606.05328. z has to tell what lies beyond a few pixels; the rate's
    weight grows, and some nats are free (Kingma et al. 2016, arXiv 1606.04934, eq. 15). Channels of one pixel do not
    see each other. Drawing takes one pass for each pixel.

    Args:
        spec: the data, images.
        latent_dim: number of latent dimensions.
        channels: of the encoder's convolutions, each halving the image; those from z to the map that pixels read have
            them reversed.
        pixel_channels: of that map and of the layers that see pixels.
        pixel_blocks: gated layers after the first, which sees 3 rows and columns; each sees one more.
        free_nats: nats that z may use for nothing; 0 for none.
        warm_up_steps: steps over which the rate's weight grows to 1; None: half of the recipe's own epochs.
        activation: activation of the convolutions between x and z.
    """
    if spec.kind != "image":
        raise ShapeError(f"{spec.name} has no images", expected="images", fix="use `sequence_vae` or `vae`")
    family, size = _of_pixels(spec), spec.shape[-2:]
    network = PixelCNN(spec.shape, (prod(family.params[:-2]), *size), pixel_channels, pixel_blocks, pixel_channels)
    likelihood, posterior = AutoregressivePixels(family, network), Normal((latent_dim,))
    decoder = ConvDecoder((latent_dim,), likelihood.params, channels[::-1], activation)
    return Recipe(
        spec.settle(likelihood.support),
        Encoder([ConvEncoder(spec.shape, posterior.params, channels, activation)]),
        (Flat(posterior, StandardNormal(posterior.event_shape)),),
        Conditional(decoder, likelihood),
        guarded(spec, free_nats, warm_up_steps),
        TRAINING,
    )


def _of_pixels(spec: DataSpec) -> Family:
    """Return the family of single pixels: a probability of each level where there are few, else as the data ask."""
    usual = default_likelihood(spec)
    few = usual.support != "binary" and spec.scored_support == "levels" and spec.levels <= FEW_LEVELS
    return Categorical(spec.shape, spec.levels) if few else usual
