"""The networks and losses of two widely read tutorials; the output bias starts at the mean image, as everywhere."""

from math import sqrt

from ..core.model import Conditional, Encoder
from ..core.recipe import Recipe, Training, recipe
from ..core.spec import DataSpec
from ..data.corruptions import MultiplyAdd
from ..families import FixedNormal, GreyBernoulli, Normal
from ..groups import Flat
from ..networks import MLP
from ..objectives import ELBO, Corrupt
from ..priors import StandardNormal


@recipe
def mnist_vae_2017(
    spec: DataSpec, *, latent_dim: int = 20, hidden: int = 500, dropout: float = 0.1, add_noise: bool = False
) -> Recipe:
    """The network and loss of hwalsuklee/tensorflow-mnist-VAE (2017): cross-entropy of grey pixels + KL.

    Encoder ELU, tanh, sigma = 1e-6 + softplus; decoder tanh, ELU. The loss is the expected ELBO over binarisations
    of the grey pixels (Kingma & Welling 2014, arXiv 1312.6114, appendix C.1), and is reported as that bound.

    Args:
        spec: the data, grey images.
        latent_dim: number of latent dimensions (its --dim_z).
        hidden: width of both hidden layers (its --n_hidden).
        dropout: probability of dropping a hidden unit in training (1 - its keep_prob).
        add_noise: let the encoder see x * m + b, with m and b fair coins for each pixel (its --add_noise).
    """
    posterior, likelihood = Normal((latent_dim,), "softplus", 1e-6), GreyBernoulli(spec.shape)
    encoder = MLP(spec.shape, posterior.params, (hidden, hidden), ("elu", "tanh"), dropout)
    decoder = MLP((latent_dim,), likelihood.params, (hidden, hidden), ("tanh", "elu"), dropout)
    group = Flat(posterior, StandardNormal((latent_dim,)))
    objective = Corrupt(ELBO(), MultiplyAdd()) if add_noise else ELBO()
    training = Training(epochs=20, batch_size=128, lr=1e-3)
    settled = spec.settle(likelihood.support)
    return Recipe(settled, Encoder([encoder]), (group,), Conditional(decoder, likelihood), objective, training)


@recipe
def workshop_vae_2025(spec: DataSpec, *, latent_dim: int = 8, hidden: int = 256) -> Recipe:
    """The model of a 2025 workshop tutorial, 784-256-8, whose loss is |x - D(z)|^2 + 3 KL.

    That loss is -3 ELBO - (3 D/2) log(3 pi) for a Normal likelihood of variance 3/2 (Kingma & Welling 2014,
    arXiv 1312.6114, appendix C.2), so it is trained as that ELBO; the tutorial prints it summed over a batch of 32.

    Args:
        spec: the data, grey images.
        latent_dim: number of latent dimensions.
        hidden: width of the hidden layers.
    """
    posterior, likelihood = Normal((latent_dim,)), FixedNormal(spec.shape, sqrt(1.5))
    encoder = MLP(spec.shape, posterior.params, (hidden, latent_dim), "relu")
    decoder = MLP((latent_dim,), likelihood.params, (hidden,), "relu", squash=True)
    group = Flat(posterior, StandardNormal((latent_dim,)))
    training = Training(epochs=10, batch_size=32, lr=1e-3)
    settled = spec.settle("real")
    return Recipe(settled, Encoder([encoder]), (group,), Conditional(decoder, likelihood), ELBO(), training)
