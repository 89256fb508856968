"""Latents on curved spaces: hyperbolic, and products of hyperbolic, flat and spherical ones."""

from torch import nn

from ..core.errors import UsageError
from ..core.model import Family
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Normal, Product, VonMisesFisher, WrappedNormal
from ..networks import Activation
from ..objectives import ELBO
from ..priors import HypersphericalUniform, ProductPrior, StandardNormal, WrappedNormalPrior
from .parts import mlp_recipe, warm_up


@recipe
def poincare_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 10,
    curvature: float = -1.0,
    learn_curvature: bool = False,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """Poincare VAE: the ELBO with wrapped normals on hyperbolic space as posterior and prior.

    Mathieu et al. 2019, arXiv 1901.06033; Nagano et al. 2019, arXiv 1902.02992. Both densities are with respect to the
    volume of the space. The rate is log q(z) - log p(z) of the z that was drawn; the decoder is an MLP of log_0(z).

    Args:
        spec: the data.
        latent_dim: dimensions of the space.
        curvature: of the space, below 0; near 0 it is that of `vae`.
        learn_curvature: True if the curvature is learned, as the scale of the prior.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior, prior = _hyperbolic(latent_dim, curvature, learned=learn_curvature)
    return mlp_recipe(spec, posterior, ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


@recipe
def mixed_curvature_vae(
    spec: DataSpec,
    *,
    curvatures: tuple[float, ...] = (-1.0, 0.0, 1.0),
    factor_dim: int = 4,
    learn_curvature: bool = True,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """Mixed-curvature VAE: the ELBO of a latent on a product of hyperbolic, flat and spherical spaces.

    Skopek et al. 2020, arXiv 1911.08411, sec. 3. Negative curvatures get wrapped normals, 0 a normal, 1 a von
    Mises-Fisher posterior with the uniform prior, with which the radius of the sphere changes nothing.

    Args:
        spec: the data.
        curvatures: of each factor; below 0, 0 or 1.
        factor_dim: dimensions of each factor; a spherical one has one coordinate more.
        learn_curvature: True if negative curvatures are learned, as scales of the prior.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    factors = [_factor(factor_dim, curvature, learned=learn_curvature) for curvature in curvatures]
    posterior, prior = Product([family for family, _ in factors]), ProductPrior([p for _, p in factors])
    return mlp_recipe(spec, posterior, ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


def _hyperbolic(dim: int, curvature: float, *, learned: bool) -> tuple[WrappedNormal, WrappedNormalPrior]:
    return WrappedNormal((dim,), curvature), WrappedNormalPrior((dim,), curvature, learned=learned)


def _factor(dim: int, curvature: float, *, learned: bool) -> tuple[Family, nn.Module]:
    """Return posterior and prior of one factor."""
    if curvature < 0:
        return _hyperbolic(dim, curvature, learned=learned)
    if curvature not in (0, 1):
        raise UsageError(
            f"a factor cannot have the curvature {curvature}",
            expected="below 0 (hyperbolic), 0 (flat) or 1 (a sphere)",
            fix="give 1: the radius of a sphere with a uniform prior changes nothing",
        )
    if curvature == 0:
        return Normal((dim,)), StandardNormal((dim,))
    return VonMisesFisher((dim + 1,)), HypersphericalUniform((dim + 1,))
