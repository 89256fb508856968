"""VAEs trained by tighter bounds than the ELBO, and by gradients with less noise."""

from ..core.objective import Objective
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Normal, SharedNormal
from ..families.student import StudentT
from ..networks import Activation
from ..objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, Renyi
from .parts import default_likelihood, mlp_recipe, noise_floor


def normal_vae(
    spec: DataSpec, objective: Objective, latent_dim: int, hidden: tuple[int, ...], activation: Activation
) -> Recipe:
    """Return the recipe of `vae` with another objective."""
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def iwae(
    spec: DataSpec,
    *,
    num_samples: int = 5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Importance weighted autoencoder: maximises E[log 1/K sum_k p(x, z_k) / q(z_k|x)], tighter than the ELBO.

    Burda et al. 2016, "Importance Weighted Autoencoders", arXiv 1509.00519, eq. 8.

    Args:
        spec: the data.
        num_samples: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, IWAE(num_samples), latent_dim, hidden, activation)


@recipe
def miwae(
    spec: DataSpec,
    *,
    num_outer: int = 3,
    num_inner: int = 5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE trained by the mean of M importance weighted bounds of K samples each.

    Rainforth et al. 2018, "Tighter Variational Bounds are Not Necessarily Better", arXiv 1802.04537; for
    missing data see `miwae_missing`.

    Args:
        spec: the data.
        num_outer: M.
        num_inner: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, MIWAE(num_outer, num_inner), latent_dim, hidden, activation)


@recipe
def ciwae(
    spec: DataSpec,
    *,
    num_samples: int = 5,
    mix: float = 0.5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE trained by mix ELBO + (1 - mix) L_K, L_K the importance weighted bound of K samples.

    Rainforth et al. 2018, "Tighter Variational Bounds are Not Necessarily Better", arXiv 1802.04537.

    Args:
        spec: the data.
        num_samples: K.
        mix: weight of the ELBO, from 0 to 1.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, CIWAE(num_samples, mix), latent_dim, hidden, activation)


@recipe
def piwae(
    spec: DataSpec,
    *,
    num_outer: int = 3,
    num_inner: int = 5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE whose decoder maximises the bound of M K samples, and whose encoder the mean of M bounds of K.

    Rainforth et al. 2018, "Tighter Variational Bounds are Not Necessarily Better", arXiv 1802.04537.

    Args:
        spec: the data.
        num_outer: M.
        num_inner: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, PIWAE(num_outer, num_inner), latent_dim, hidden, activation)


@recipe
def dreg(
    spec: DataSpec,
    *,
    num_samples: int = 5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """The bound of `iwae` by the doubly reparameterised gradient, which has less noise in the encoder.

    Tucker et al. 2019, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", arXiv 1810.04152,
    eq. 8.

    Args:
        spec: the data.
        num_samples: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, DReG(num_samples), latent_dim, hidden, activation)


@recipe
def stl(
    spec: DataSpec,
    *,
    num_samples: int = 1,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE by the gradient through z alone ("sticking the landing"): no noise where q is the posterior.

    Roeder et al. 2017, "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference",
    arXiv 1703.09194.

    Args:
        spec: the data.
        num_samples: K; above 1 the gradient is biased, and `dreg` is the one that is not.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, STL(num_samples), latent_dim, hidden, activation)


@recipe
def renyi_vae(
    spec: DataSpec,
    *,
    order: float = 0.5,
    num_samples: int = 5,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE trained by the Renyi bound 1/(1 - alpha) log E_q[(p(x, z) / q(z|x))^(1 - alpha)], with K samples.

    Li & Turner 2016, "Renyi Divergence Variational Inference", arXiv 1602.02311, eq. 4.

    Args:
        spec: the data.
        order: alpha, the order of the divergence: 0 gives `iwae`, 1 the ELBO; below 0 it is no lower bound.
        num_samples: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return normal_vae(spec, Renyi(order, num_samples), latent_dim, hidden, activation)


@recipe
def miwae_missing(
    spec: DataSpec,
    *,
    num_samples: int = 10,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """The bound of `iwae` on log p(x_observed), for data with missing cells (the MIWAE of imputation).

    Mattei & Frellsen 2019, "MIWAE: Deep Generative Modelling and Imputation of Incomplete Data", arXiv 1812.02633. The
    encoder sees missing cells as 0, as in the paper, and beside them the mask, which is not in it. Real values have
    Student's t as their likelihood.

    Args:
        spec: the data; cells are taken as missing at random.
        num_samples: K.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    likelihood = default_likelihood(spec)
    if isinstance(likelihood, SharedNormal):  # the paper's decoder of real values, whose outliers cost less
        likelihood = StudentT(spec.shape, floor=noise_floor(spec))
    return mlp_recipe(spec, Normal((latent_dim,)), IWAE(num_samples), hidden, activation, likelihood)
