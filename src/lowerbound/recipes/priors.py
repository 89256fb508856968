"""Other priors of z: learned with the rest, or fitted to the codes once the rest is trained."""

from ..core.phases import FitPrior
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Normal
from ..networks import Activation
from ..objectives import ELBO
from ..priors import (
    ExemplarPrior,
    FlowMatching,
    MixtureOfNormals,
    StandardNormal,
    TwoStage,
    VampPrior,
)
from .parts import mlp_recipe, warm_up


@recipe
def vamp(
    spec: DataSpec,
    *,
    pseudo_inputs: int = 500,
    latent_dim: int = 40,
    hidden: tuple[int, ...] = (300, 300),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose prior is the mixture of its posteriors of learned pseudo-inputs: the ELBO, the rate sampled.

    Tomczak & Welling 2018, arXiv 1705.07120, eq. 10.

    Args:
        spec: the data.
        pseudo_inputs: number of pseudo-inputs; each costs as much as an example of every batch.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    unit = spec.support in ("binary", "unit")
    prior = VampPrior((latent_dim,), spec.shape, pseudo_inputs, "unit" if unit else "real")
    return mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


@recipe
def exemplar_vae(
    spec: DataSpec,
    *,
    exemplars: int = 500,
    latent_dim: int = 40,
    hidden: tuple[int, ...] = (300, 300),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose prior is a mixture of normals around the codes of training examples: the ELBO, each row left out.

    Norouzi et al. 2020, "Exemplar VAE", arXiv 2004.04795, sec. 3, with exemplars drawn once and no nearest neighbours.

    Args:
        spec: the data.
        exemplars: number of training examples the prior is made of, at most all; they are saved with the model.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    prior = ExemplarPrior((latent_dim,), spec.shape, max(2, min(exemplars, spec.size)), masked=spec.masked)
    return mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


@recipe
def gmm_prior_vae(
    spec: DataSpec,
    *,
    components: int = 50,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose prior is a mixture of normals, learned with the rest: the ELBO, the rate sampled.

    Dilokthanakul et al. 2016, arXiv 1611.02648; compared by Tomczak & Welling 2018, arXiv 1705.07120.

    Args:
        spec: the data.
        components: number of components.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    prior = MixtureOfNormals((latent_dim,), components)
    return mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(1.0, warmup)), hidden, activation, prior=prior)


@recipe
def two_stage_vae(
    spec: DataSpec,
    *,
    second_hidden: tuple[int, ...] = (256, 256),
    second_epochs: int = 10,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose codes a second VAE learns afterwards: the ELBO, then that of log p(z).

    Dai & Wipf 2019, "Diagnosing and Enhancing VAE Models", arXiv 1903.05789, sec. 4.

    Args:
        spec: the data.
        second_hidden: widths of the second encoder's hidden layers; its decoder has them reversed.
        second_epochs: epochs of the second training.
        latent_dim: number of latent dimensions, of both.
        hidden: widths of the first encoder's hidden layers; its decoder has them reversed.
        activation: activation of the first VAE's hidden layers.
        warmup: steps over which the weight of the first rate rises from 0 to 1.
    """
    made = mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(1.0, warmup)), hidden, activation)
    second = TwoStage((latent_dim,), hidden=second_hidden)
    return made.replace(after=(FitPrior((second,), epochs=second_epochs, lr=3e-3),))


@recipe
def latent_flow_matching(
    spec: DataSpec,
    *,
    flow_hidden: tuple[int, ...] = (128, 128),
    flow_steps: int = 10,
    flow_epochs: int = 10,
    components: int = 20,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    warmup: int = 0,
) -> Recipe:
    """VAE whose codes a flow learns afterwards: the ELBO, then flow matching, kept if it beats simpler priors.

    Lipman et al. 2023, "Flow Matching for Generative Modeling", arXiv 2210.02747. The flow, a mixture of normals
    and N(0, I) itself are compared by the mean log p(z) of validation codes; the best becomes the prior.

    Args:
        spec: the data.
        flow_hidden: widths of the hidden layers of the flow's velocity.
        flow_steps: Runge-Kutta steps of a draw, each of four evaluations of the velocity.
        flow_epochs: epochs in which each prior is fitted.
        components: components of the mixture of normals.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
        warmup: steps over which the weight of the rate rises from 0 to 1.
    """
    made = mlp_recipe(spec, Normal((latent_dim,)), ELBO(beta=warm_up(1.0, warmup)), hidden, activation)
    flow = FlowMatching((latent_dim,), flow_hidden, flow_steps)
    others = MixtureOfNormals((latent_dim,), components), StandardNormal((latent_dim,))
    return made.replace(after=(FitPrior((flow, *others), epochs=flow_epochs, lr=3e-3),))
