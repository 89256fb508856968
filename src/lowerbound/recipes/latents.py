"""Latents on a sphere or a simplex, and likelihoods of levels or with a computed variance."""

from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import DiscretizedLogistic, LogisticMixture, Normal, OptimalNormal, RelaxedCategorical, VonMisesFisher
from ..families.discretized_logistic import LogisticScale
from ..networks import Activation
from ..objectives import ELBO
from ..priors import HypersphericalUniform, RelaxedUniform
from .parts import levels_of, mlp_recipe, noise_floor, warm_up


@recipe
def hyperspherical_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 10,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """Hyperspherical VAE: the ELBO with a von Mises-Fisher posterior and the uniform prior on a sphere.

    Davidson et al. 2018, "Hyperspherical Variational Auto-Encoders", arXiv 1804.00891, sec. 3.

    Args:
        spec: the data.
        latent_dim: dimensions of the sphere; z has one coordinate more.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior, prior = VonMisesFisher((latent_dim + 1,)), HypersphericalUniform((latent_dim + 1,))
    return mlp_recipe(spec, posterior, ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


@recipe
def gumbel_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    classes: int = 10,
    temperature: float = 0.67,
    prior_temperature: float = 0.5,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with relaxed categorical latents: the ELBO of Concrete densities, not of categorical variables.

    Maddison et al. 2017, "The Concrete Distribution", arXiv 1611.00712, eq. 21; Jang et al. 2017, arXiv 1611.01144.
    The rate is log q(z) - log p(z) of the relaxed z that was drawn; it may be larger than log(classes) a variable.

    Args:
        spec: the data.
        latent_dim: number of categorical variables.
        classes: classes of each.
        temperature: temperature of the posterior.
        prior_temperature: temperature of the uniform prior.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior = RelaxedCategorical((latent_dim, classes), temperature)
    prior, objective = RelaxedUniform((latent_dim, classes), prior_temperature), ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, posterior, objective, hidden, activation, prior=prior)


@recipe
def sigma_vae(
    spec: DataSpec,
    *,
    decay: float = 0.95,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """Optimal sigma-VAE: the ELBO with a Normal likelihood whose variance is the mean squared training error.

    Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders", arXiv 2006.13202, sec. 3. The
    error is a running mean over training steps and not that of the scored batch; grey pixels stay grey.

    Args:
        spec: the data.
        decay: share of the running mean that a step keeps.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    likelihood, objective = OptimalNormal(spec.shape, decay, noise_floor(spec)), ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, likelihood)


@recipe
def discretized_logistic_vae(
    spec: DataSpec,
    *,
    components: int = 1,
    scale: LogisticScale = "shared",
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE of 8-bit pixels: the ELBO with the exact probability of each level under a rounded logistic, or a mixture.

    Kingma et al. 2016, arXiv 1606.04934 (one logistic); Salimans et al. 2017, PixelCNN++, arXiv 1701.05517, sec. 2.1
    (a mixture, in which a pixel's channels depend on each other). Grey pixels stay grey.

    Args:
        spec: the data, of evenly spaced levels.
        components: 1, or the number of components of a mixture, whose scales always are the network's.
        scale: of one component: "shared" (one learned) or "network" (of each value).
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    levels, objective = levels_of(spec), ELBO(beta=warm_up(1.0, warmup))
    one = DiscretizedLogistic(spec.shape, levels, scale)
    likelihood = LogisticMixture(spec.shape, components, levels) if components != 1 else one
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, likelihood)
