"""Autoencoders whose codes or reconstructions are judged by something other than densities."""

from typing import Literal, TypeAlias

from ..core.model import Conditional, Encoder
from ..core.objective import Objective
from ..core.phases import FitPrior
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, Normal, SharedNormal
from ..groups import Flat
from ..networks import MLP, Activation, ConvEncoder, SpectralNorm
from ..objectives import AAE, RAE, SSIM, VAEGAN, Perceptual
from ..priors import MixtureOfNormals, StandardNormal
from .parts import TRAINING, default_likelihood, mlp_encoder, mlp_parts, mlp_recipe, noise_floor

Smoothness: TypeAlias = Literal["l2", "gradient_penalty", "spectral_norm", "none"]


def _grey_recipe(
    spec: DataSpec, objective: Objective, latent_dim: int, hidden: tuple[int, ...], activation: Activation
) -> Recipe:
    """Return a VAE whose pixels stay as they are; its means lie in [0, 1] where the data do."""
    posterior, likelihood = Normal((latent_dim,)), SharedNormal(spec.shape, noise_floor(spec))
    squash = spec.support in ("binary", "unit")
    decoder = MLP((latent_dim,), likelihood.params, hidden[::-1], activation, squash=squash)
    encoder = Encoder([mlp_encoder(spec, posterior, hidden, activation)])
    group = Flat(posterior, StandardNormal((latent_dim,)))
    return Recipe(spec.settle("real"), encoder, (group,), Conditional(decoder, likelihood), objective, TRAINING)


@recipe
def aae(
    spec: DataSpec,
    *,
    critic_weight: float = 1.0,
    critic: tuple[int, ...] = (256,),
    latent_dim: int = 8,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Adversarial autoencoder: reconstructs from a code that a critic cannot tell from a draw of the prior.

    Makhzani et al. 2016, "Adversarial Autoencoders", arXiv 1511.05644, sec. 2, with a deterministic encoder.

    Args:
        spec: the data.
        critic_weight: weight of fooling the critic, in nats.
        critic: widths of the critic's hidden layers.
        latent_dim: size of the code.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Delta((latent_dim,)), AAE((latent_dim,), critic_weight, critic), hidden, activation)


@recipe
def vae_gan(
    spec: DataSpec,
    *,
    feature_weight: float = 30.0,
    gamma: float = 1.0,
    critic: tuple[int, ...] = (256,),
    channels: tuple[int, ...] = (),
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE-GAN: reconstructions near in the features of a critic that tells real examples from decoded ones.

    Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", arXiv 1512.09300, alg. 1.

    Args:
        spec: the data; grey pixels stay grey.
        feature_weight: precision of the features; 1 in the paper, whose features have far more dimensions.
        gamma: weight of the feature distance in the decoder's loss.
        critic: widths of the critic's hidden layers; the last one is the features.
        channels: channels of the critic's convolutions, for images; none for an MLP.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = VAEGAN(spec.shape, feature_weight, gamma, critic, channels)
    return _grey_recipe(spec, objective, latent_dim, hidden, activation)


@recipe
def rae(
    spec: DataSpec,
    *,
    kind: Smoothness = "gradient_penalty",
    code_weight: float = 0.1,
    decoder_weight: float = 0.1,
    components: int = 10,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Regularised autoencoder: -log p(x|z) + code_weight |z|^2 / 2 + a penalty that keeps the decoder smooth.

    Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", arXiv 1903.12436, sec. 3 and 4.

    Args:
        spec: the data.
        kind: "gradient_penalty", "l2" (squared weights), "spectral_norm" (of each layer's weights), or "none".
        code_weight: weight of |z|^2 / 2; with "spectral_norm" take about 0.001, as the decoder then needs wide codes.
        decoder_weight: weight of the decoder's penalty; for "l2" take about 0.001; "spectral_norm" has none.
        components: normals of the mixture that is fitted to the codes after the training, to draw samples from.
        latent_dim: size of the code.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    likelihood, normalised = default_likelihood(spec), kind == "spectral_norm"
    parts = mlp_parts(spec, Delta((latent_dim,)), likelihood, hidden, activation)
    decoder = Conditional(SpectralNorm(parts.decoder.network), likelihood) if normalised else parts.decoder
    objective = RAE(code_weight, "none" if kind == "spectral_norm" else kind, decoder_weight)
    after = (FitPrior((MixtureOfNormals((latent_dim,), components),)),)
    return Recipe(spec.settle(likelihood.support), parts.encoder, parts.groups, decoder, objective, TRAINING, after)


@recipe
def ssim_vae(
    spec: DataSpec,
    *,
    window: int = 7,
    levels: int = 1,
    ssim_weight: float = 1.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE whose reconstructions are judged by structural similarity: ssim_weight D (1 - SSIM) + KL(q || p).

    Snell et al. 2017, "Learning to Generate Images with Perceptual Similarity Metrics", arXiv 1511.06409; SSIM: Wang
    et al. 2004, eq. 13.

    Args:
        spec: the data, images with values in [0, 1], which stay grey.
        window: side of the Gaussian window in pixels, odd.
        levels: number of scales; more than one is the multi-scale SSIM.
        ssim_weight: weight of the dissimilarity, which is counted once for each of the D values.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return _grey_recipe(spec, SSIM(window, levels, ssim_weight), latent_dim, hidden, activation)


@recipe
def perceptual_vae(
    spec: DataSpec,
    *,
    feature_weight: float = 100.0,
    features: int = 256,
    channels: tuple[int, ...] = (32, 64),
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE whose reconstructions are judged in the features of a fixed random convolutional network.

    Hou et al. 2017, "Deep Feature Consistent Variational Autoencoder", arXiv 1610.00291, whose features are those of a
    network trained on photographs. Here they are random, so that no weights from outside are needed: for trained ones
    give `Perceptual` your own module.

    Args:
        spec: the data, images; grey pixels stay grey.
        feature_weight: weight of the squared distance of the features.
        features: number of features.
        channels: channels of the features' network after each halving.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    fixed = ConvEncoder(spec.shape, (features,), channels)
    return _grey_recipe(spec, Perceptual(fixed, feature_weight), latent_dim, hidden, activation)
