"""Likelihoods that grey pixels and outliers ask for."""

from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import ContinuousBernoulli, Normal, StudentT
from ..families.cellwise import Spread
from ..networks import Activation
from ..objectives import ELBO
from .parts import mlp_recipe, noise_floor, warm_up


@recipe
def continuous_bernoulli_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with a continuous Bernoulli likelihood: the cross-entropy of grey pixels, made a density; they stay grey.

    Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders",
    arXiv 1907.06845.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    objective = ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, ContinuousBernoulli(spec.shape))


@recipe
def student_vae(
    spec: DataSpec,
    *,
    spread: Spread = "network",
    least_df: float = 2.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with a Student's t likelihood, which an outlier costs the log of its distance and not the square.

    Takahashi et al. 2018, "Student-t Variational Autoencoder for Robust Density Estimation", IJCAI.

    Args:
        spec: the data.
        spread: where scale and degrees of freedom come from: "network", or "shared", one learned number each.
        least_df: the degrees of freedom are above this; at 2 or more the likelihood has a variance.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    likelihood = StudentT(spec.shape, spread, least_df, noise_floor(spec))
    objective = ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, likelihood)
