"""The autoencoder, the VAE, and the VAE with its rate weighted, left out or replaced."""

from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, Normal
from ..networks import Activation
from ..objectives import ELBO, Reconstruction, SimpleRegularizer
from .parts import mlp_recipe, warm_up


@recipe
def vae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    num_samples: int = 1,
    warmup: int = 0,
) -> Recipe:
    """Variational autoencoder with MLPs: maximises E_q[log p(x|z)] - KL(q(z|x) || p(z)).

    Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv 1312.6114, eq. 7.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        num_samples: latent samples for each example and step.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), ELBO(num_samples, warm_up(1.0, warmup)), hidden, activation)


@recipe
def beta_vae(
    spec: DataSpec,
    *,
    beta: float = 4.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with a weighted rate: maximises E_q[log p(x|z)] - beta KL(q(z|x) || p(z)).

    Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework",
    ICLR, eq. 4.

    Args:
        spec: the data.
        beta: weight of the rate, in nats summed over dimensions; 1 is the VAE.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to beta.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(beta, warmup)), hidden, activation)


@recipe
def ae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Plain autoencoder: a code z = f(x), and the decoder's log p(x|z) at it; it has no density of x.

    Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks", Science 313.

    Args:
        spec: the data.
        latent_dim: size of the code.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Delta((latent_dim,)), Reconstruction(), hidden, activation)


@recipe
def vae_no_kl(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE without the KL term: reconstruction through noise whose size is learned, so the noise goes to 0.

    The counter-example to Kingma & Welling 2014, arXiv 1312.6114, eq. 7: maximises E_q[log p(x|z)] alone.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), Reconstruction(), hidden, activation)


@recipe
def vae_simple_reg(
    spec: DataSpec,
    *,
    a: float = 0.5,
    b: float = 0.25,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE with a mu^2 + b (log sigma^2)^2 in place of the KL, which it matches to second order at a = 1/2, b = 1/4.

    Compare Kingma & Welling 2014, arXiv 1312.6114, appendix B.

    Args:
        spec: the data.
        a: weight of mu^2.
        b: weight of (log sigma^2)^2.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), SimpleRegularizer(a, b), hidden, activation)
