"""VAEs whose rate is annealed, floored, held, constrained, or taken apart, and those whose codes are compared."""

from math import sqrt
from typing import Literal

from ..core.model import Conditional, Encoder
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, FixedNormal, Normal
from ..groups import Flat
from ..networks import MLP, Activation
from ..objectives import DIP, ELBO, GECO, HSIC, MMD, Capacity, FactorVAE, FreeBits, Lagging, TotalCorrelation
from ..priors import StandardNormal
from ..train.schedules import Cyclical, Linear
from .parts import TRAINING, default_likelihood, half_of_training, mlp_encoder, mlp_recipe, steps_of_epoch


@recipe
def disentangled_beta_vae(
    spec: DataSpec,
    *,
    gamma: float = 30.0,
    capacity: float = 25.0,
    steps: int | None = None,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE with a growing capacity: minimises E_q[-log p(x|z)] + gamma |KL - C|, C rising from 0 to `capacity`.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", arXiv 1804.03599.

    Args:
        spec: the data.
        gamma: weight of the distance of the rate from C.
        capacity: the last C in nats.
        steps: optimiser steps in which C rises; None: half of those of the recipe's own epochs and batches.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = Capacity(gamma, Linear(0.0, capacity, half_of_training(spec) if steps is None else steps))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def annealed_vae(
    spec: DataSpec,
    *,
    beta: float = 1.0,
    period: int = 2000,
    ramp: float = 0.5,
    cycles: int = 4,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE with cyclical annealing: the weight of the rate rises from 0 to beta several times, then stays there.

    Fu et al. 2019, "Cyclical Annealing Schedule", arXiv 1903.10145.

    Args:
        spec: the data.
        beta: weight of the rate at the end of each cycle.
        period: optimiser steps of one cycle.
        ramp: share of a cycle in which the weight rises.
        cycles: number of cycles.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = ELBO(beta=Cyclical(0.0, beta, period, ramp, cycles))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def free_bits_vae(
    spec: DataSpec,
    *,
    floor: float = 0.25,
    per: Literal["dimension", "group"] = "dimension",
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE with free bits: minimises E_q[-log p(x|z)] + sum_j max(floor, mean KL_j).

    Kingma et al. 2016, "Improved Variational Inference with Inverse Autoregressive Flow", arXiv 1606.04934, eq. 15.

    Args:
        spec: the data.
        floor: nats that each dimension (or group) may use for nothing.
        per: "dimension" or "group".
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), FreeBits(floor, per), hidden, activation)


@recipe
def geco_vae(
    spec: DataSpec,
    *,
    tolerance: float | None = None,
    gain: float = 0.12,
    speed: float = 0.3,
    decay: float = 0.9,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """GECO: the smallest rate at which the distortion is at most a tolerance.

    Rezende & Viola 2018, "Taming VAEs", arXiv 1810.00597, algorithm 1, with the distortion in nats as constraint.

    Args:
        spec: the data.
        tolerance: the distortion that is allowed, in nats for each value of an example; None: `gain` below that of
            the first step, where the decoder gives the data's mean whatever z is (give a number to fine-tune).
        gain: nats for each value.
        speed: how fast the log of the Lagrange multiplier follows the violated constraint.
        decay: of the constraint's moving average.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), GECO(tolerance, speed, decay, gain), hidden, activation)


@recipe
def lagging_vae(
    spec: DataSpec,
    *,
    every: int = 10,
    window: int | None = None,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE whose decoder first moves only at every n-th step, so that the encoder does not lag behind.

    He et al. 2019, "Lagging Inference Networks and Posterior Collapse in VAEs", arXiv 1901.05534, algorithm 1.

    Args:
        spec: the data.
        every: steps of the encoder for one of the decoder, while aggressive.
        window: steps over which the mutual information is averaged, and aggression ends when it stops rising; None:
            one epoch of the recipe's own batches, as in the paper.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = Lagging(every, steps_of_epoch(spec) if window is None else window)
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def beta_tc_vae(
    spec: DataSpec,
    *,
    mi_weight: float = 1.0,
    beta: float = 6.0,
    dim_weight: float = 1.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """beta-TCVAE: the rate as mutual information, total correlation and dimensions' rates, each with its weight.

    Chen et al. 2018, "Isolating Sources of Disentanglement in VAEs", arXiv 1802.04942, eq. 4, stratified estimates.

    Args:
        spec: the data.
        mi_weight: alpha, the weight of the mutual information.
        beta: weight of the total correlation.
        dim_weight: gamma, the weight of the rates of single dimensions.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = TotalCorrelation(mi_weight, beta, dim_weight)
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def factor_vae(
    spec: DataSpec,
    *,
    gamma: float = 10.0,
    critic: tuple[int, ...] = (256, 256, 256),
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """FactorVAE: maximises ELBO - gamma TC(z), the total correlation estimated by a critic.

    Kim & Mnih 2018, "Disentangling by Factorising", arXiv 1802.05983, eq. 2.

    Args:
        spec: the data.
        gamma: weight of the total correlation.
        critic: widths of the critic's hidden layers.
        latent_dim: number of latent dimensions, at least two.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), FactorVAE((latent_dim,), gamma, critic), hidden, activation)


@recipe
def dip_vae(
    spec: DataSpec,
    *,
    kind: Literal["i", "ii"] = "ii",
    lambda_od: float = 10.0,
    lambda_d: float = 10.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """DIP-VAE: maximises the ELBO minus squared distances of the codes' covariance from the identity.

    Kumar et al. 2018, "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations",
    arXiv 1711.00848.

    Args:
        spec: the data.
        kind: "i", the covariance of posterior means, or "ii", that of z.
        lambda_od: weight of the squares off the diagonal.
        lambda_d: weight of the diagonal's squared distances from 1; for kind "i" take ten times lambda_od.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    return mlp_recipe(spec, Normal((latent_dim,)), DIP(kind, lambda_od, lambda_d), hidden, activation)


@recipe
def info_vae(
    spec: DataSpec,
    *,
    information: float = 0.0,
    mmd_weight: float = 100.0,
    kernel: Literal["imq", "rbf", "laplace"] = "rbf",
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """InfoVAE: minimises E_q[-log p(x|z)] + (1 - alpha) KL + (alpha + lambda - 1) MMD^2(q(z), p(z)).

    Zhao et al. 2019, "InfoVAE: Balancing Learning and Inference in Variational Autoencoders", arXiv 1706.02262, eq. 6.

    Args:
        spec: the data.
        information: alpha, 1 minus the weight of the rate.
        mmd_weight: their lambda.
        kernel: "imq", "rbf" or "laplace".
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = MMD(mmd_weight, information, kernel, scales=(1.0,))
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)


@recipe
def wae(
    spec: DataSpec,
    *,
    mmd_weight: float = 10.0,
    encoder: Literal["point", "normal"] = "point",
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """WAE-MMD: minimises squared error + mmd_weight MMD^2(q(z), p(z)); with a point encoder it has no density of x.

    Tolstikhin et al. 2018, "Wasserstein Auto-Encoders", arXiv 1711.01558, algorithm 2. The squared error is the
    distortion of a Normal likelihood with variance 1/2, up to its constant; grey pixels stay grey.

    Args:
        spec: the data.
        mmd_weight: their lambda.
        encoder: "point" (deterministic, as in the paper) or "normal".
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    posterior = {"point": Delta, "normal": Normal}[encoder]((latent_dim,))
    likelihood = FixedNormal(spec.shape, sqrt(0.5))
    return mlp_recipe(spec, posterior, MMD(mmd_weight), hidden, activation, likelihood)


@recipe
def hsic_vae(
    spec: DataSpec,
    *,
    hsic_weight: float = 100.0,
    scale: float = 1.0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Conditional VAE whose codes are kept independent of the label: maximises ELBO - hsic_weight HSIC(z, y).

    Lopez et al. 2018, "Information Constraints on Auto-Encoding Variational Bayes", arXiv 1805.08672. Encoder and
    decoder read y, the prior N(0, I) does not: z holds what y does not say. A bound on log p(x|y).

    Args:
        spec: the data, with labels.
        hsic_weight: weight of HSIC, which lies between 0 and 1.
        scale: squared width of the kernel of z, in units of the number of latent dimensions.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    posterior, likelihood, labels = Normal((latent_dim,)), default_likelihood(spec), max(spec.num_classes, 1)
    encoder = Encoder([mlp_encoder(spec, posterior, hidden, activation, condition=labels)])
    decoder = MLP((latent_dim,), likelihood.params, hidden[::-1], activation, condition=labels)
    group, objective = Flat(posterior, StandardNormal((latent_dim,))), HSIC(hsic_weight, scale=scale)
    settled = spec.settle(likelihood.support)
    return Recipe(settled, encoder, (group,), Conditional(decoder, likelihood), objective, TRAINING)
