"""Flows in the posterior, and flows in the prior."""

from typing import Literal, TypeAlias, get_args

from ..core.errors import UsageError
from ..core.model import Conditional, Encoder, Family
from ..core.recipe import Recipe, Training, recipe
from ..core.spec import DataSpec
from ..families import Normal
from ..flows import FlowKind
from ..groups import Flat
from ..networks import Activation, GatedMLP
from ..objectives import ELBO
from ..posteriors import IAF, MAF, Planar, Radial, SplineFlow
from ..priors import FlowPrior
from .parts import default_likelihood, mlp_recipe, warm_up

PosteriorFlow: TypeAlias = Literal["planar", "radial", "maf", "spline"]
POSTERIORS: dict[str, type[Planar | Radial | MAF | SplineFlow]] = {
    "planar": Planar, "radial": Radial, "maf": MAF, "spline": SplineFlow,
}  # fmt: skip


def flow_posterior(latent_dim: int, kind: PosteriorFlow, steps: int) -> Family:
    """Return the flow posterior of that kind.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind not in POSTERIORS:
        raise UsageError(f"there is no flow {kind!r}", expected=", ".join(get_args(PosteriorFlow)))
    return POSTERIORS[kind]((latent_dim,), steps)


@recipe
def vae_iaf(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    steps: int = 4,
    flow_hidden: tuple[int, ...] = (320,),
    context: int = 64,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    num_samples: int = 1,
    warmup: int = 0,
) -> Recipe:
    """VAE with an inverse autoregressive flow posterior: maximises E_q[log p(x, z) - log q(z|x)].

    Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow", arXiv 1606.04934,
    algorithm 1 with the gated step of eq. 13-14.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        steps: autoregressive maps, one after the other.
        flow_hidden: widths of the hidden layers of each map.
        context: size of what the maps read from the encoder.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        num_samples: latent samples for each example and step.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior = IAF((latent_dim,), steps, flow_hidden, context)
    return mlp_recipe(spec, posterior, ELBO(num_samples, warm_up(1.0, warmup)), hidden, activation)


@recipe
def vae_nf(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    kind: PosteriorFlow = "planar",
    steps: int = 8,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    num_samples: int = 1,
    warmup: int = 0,
) -> Recipe:
    """VAE with a normalizing flow posterior: maximises E_q[log p(x, z) - log q(z|x)].

    Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows", arXiv 1505.05770, eq. 15; masked
    autoregressive: Papamakarios et al. 2017, arXiv 1705.07057; splines: Durkan et al. 2019, arXiv 1906.04032.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        kind: "planar" or "radial" maps with all parameters from the encoder, "maf" or "spline".
        steps: maps, one after the other.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        num_samples: latent samples for each example and step.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior = flow_posterior(latent_dim, kind, steps)
    return mlp_recipe(spec, posterior, ELBO(num_samples, warm_up(1.0, warmup)), hidden, activation)


@recipe
def flow_prior_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    kind: FlowKind = "realnvp",
    steps: int = 6,
    flow_hidden: tuple[int, ...] = (128,),
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE with a flow as its prior, learned with the rest: maximises E_q[log p(x|z) + log p(z) - log q(z|x)].

    Xu et al. 2019, "On the Necessity and Effectiveness of Learning the Prior of Variational Auto-Encoder", arXiv
    1905.13452 (RealNVP); Chen et al. 2017, "Variational Lossy Autoencoder", arXiv 1611.02731, sec. 3.2
    (autoregressive).

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        kind: "realnvp", "spline" or "maf".
        steps: maps, one after the other.
        flow_hidden: widths of the hidden layers of each map.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    prior = FlowPrior((latent_dim,), kind, steps, flow_hidden)
    objective = ELBO(beta=warm_up(1.0, warmup))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation, prior=prior)


@recipe
def gated_flow_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 40,
    hidden: tuple[int, ...] = (500, 500),
    steps: int = 6,
    flow_hidden: tuple[int, ...] = (128,),
    warmup: int = 100,
) -> Recipe:
    """VAE of gated layers with a RealNVP prior, made to fit quickly on a CPU: maximises the ELBO with KL warm-up.

    Gated layers: Tomczak & Welling 2018, "VAE with a VampPrior", arXiv 1705.07120, sec. 5.1; prior: Xu et al. 2019,
    arXiv 1905.13452.

    Args:
        spec: the data.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's gated layers; the decoder has them reversed.
        steps: couplings of the prior.
        flow_hidden: widths of the hidden layers of each coupling.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    posterior, likelihood = Normal((latent_dim,)), default_likelihood(spec)
    encoder = GatedMLP(spec.shape, posterior.params, hidden)
    decoder = Conditional(GatedMLP((latent_dim,), likelihood.params, hidden[::-1]), likelihood)
    group = Flat(posterior, FlowPrior((latent_dim,), "realnvp", steps, flow_hidden))
    settled, objective = spec.settle(likelihood.support), ELBO(beta=warm_up(1.0, warmup))
    return Recipe(settled, Encoder([encoder]), [group], decoder, objective, GATED_TRAINING)


GATED_TRAINING = Training(epochs=40, batch_size=128, lr=1e-3, lr_schedule="constant_cosine", ema=0.999)
