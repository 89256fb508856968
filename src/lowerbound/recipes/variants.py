"""Other networks, likelihoods, inputs and conditions."""

from ..core.model import Conditional, Encoder
from ..core.recipe import Recipe, Training, recipe
from ..core.spec import DataSpec
from ..data.corruptions import CorruptionName, corruption
from ..families import Normal, SharedNormal
from ..groups import Flat
from ..networks import MLP, Activation, ConvDecoder, ConvEncoder
from ..objectives import ELBO, Corrupt
from ..priors import ConditionalPrior, StandardNormal
from .parts import (
    TRAINING,
    Variance,
    default_likelihood,
    mlp_encoder,
    mlp_parts,
    mlp_recipe,
    noise_floor,
    normal_likelihood,
    warm_up,
)


@recipe
def conv_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    channels: tuple[int, ...] = (32, 64),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with strided convolutions, for images of any size and number of channels.

    Kingma & Welling 2014, arXiv 1312.6114, eq. 7, with the networks of Radford et al. 2016, arXiv 1511.06434, sec. 3.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        channels: channels after each halving; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior, likelihood = Normal((latent_dim,)), default_likelihood(spec)
    encoder = Encoder([ConvEncoder(spec.shape, posterior.params, channels, activation)])
    decoder = Conditional(ConvDecoder((latent_dim,), likelihood.params, channels[::-1], activation), likelihood)
    group = Flat(posterior, StandardNormal((latent_dim,)))
    return Recipe(
        spec.settle(likelihood.support), encoder, (group,), decoder, ELBO(beta=warm_up(1.0, warmup)), TRAINING
    )


@recipe
def gaussian_vae(
    spec: DataSpec,
    *,
    variance: Variance = "shared",
    scale: float = 1.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with a Normal likelihood whose variance is set, learned, or computed from z; grey pixels stay grey.

    Kingma & Welling 2014, arXiv 1312.6114, appendix C.2; one learned variance: Rybkin et al. 2021, arXiv 2006.13202.

    Args:
        spec: the data.
        variance: "fixed" (scale^2), "shared" (one learned), "per_dim" (one for each value), "network" (of z).
        scale: standard deviation of the fixed variance.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    likelihood, objective = normal_likelihood(spec, variance, scale), ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, likelihood)


@recipe
def linear_vae(spec: DataSpec, *, latent_dim: int = 2) -> Recipe:
    """Linear encoder and decoder with one learned variance: its optimum is probabilistic PCA.

    Lucas et al. 2019, "Don't Blame the ELBO!", arXiv 1911.02469; Tipping & Bishop 1999.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
    """
    likelihood = SharedNormal(spec.shape, noise_floor(spec))
    parts = mlp_parts(spec, Normal((latent_dim,)), likelihood, hidden=())
    training = Training(epochs=200, batch_size=128, lr=1e-2, lr_schedule="cosine")
    return Recipe(spec.settle("real"), *parts, ELBO(), training)


@recipe
def denoising_vae(
    spec: DataSpec,
    *,
    noise: CorruptionName = "gaussian",
    amount: float = 0.3,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose encoder sees a corrupted x and whose likelihood scores the clean one.

    Im et al. 2017, "Denoising Criterion for Variational Auto-Encoding Framework", arXiv 1511.06406, the bound L_dvae.

    Args:
        spec: the data.
        noise: "gaussian", "mask", "salt-and-pepper", "multiply-add" (x * m + b, m and b fair coins), or for images
            "blur" or "haze".
        amount: scale of the Gaussian noise, share of pixels masked or replaced, sigma of the blur in pixels, or
            thickness of the haze.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    objective = Corrupt(ELBO(beta=warm_up(1.0, warmup)), corruption(noise, amount))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def cvae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """Conditional VAE: the label y goes to encoder, prior and decoder; a bound on log p(x|y).

    Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models",
    NeurIPS, eq. 4.

    Args:
        spec: the data, with labels.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior, likelihood, labels = Normal((latent_dim,)), default_likelihood(spec), max(spec.num_classes, 1)
    prior_family = Normal((latent_dim,))
    prior = ConditionalPrior(Conditional(MLP((labels,), prior_family.params, hidden=()), prior_family))
    encoder = Encoder([mlp_encoder(spec, posterior, hidden, activation, condition=labels)])
    decoder = MLP((latent_dim,), likelihood.params, hidden[::-1], activation, condition=labels)
    group, objective = Flat(posterior, prior), ELBO(beta=warm_up(1.0, warmup))
    settled = spec.settle(likelihood.support)
    return Recipe(settled, encoder, (group,), Conditional(decoder, likelihood), objective, TRAINING)
