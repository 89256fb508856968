"""Variational autoencoders of several modalities, any of which may be missing."""

from typing import Literal, TypeAlias

from ..core.errors import Incompatible, UsageError
from ..core.model import Conditional, Encoder, Family
from ..core.objective import Objective
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Normal
from ..groups import Flat
from ..networks import MLP, Activation, ModalityDecoders, ModalityEncoders
from ..objectives import Subsets, WeighedELBO
from ..objectives.modalities import Scored
from ..posteriors import MixtureOfExperts, MixtureOfProducts, ProductOfExperts
from ..priors import StandardNormal
from .parts import TRAINING, default_likelihood, mlp_encoder

Balance: TypeAlias = Literal["dims", "none"]
OF_MODALITIES = ("mmvae", "mopoe", "mvae")
"""The recipes that need data of several modalities."""


def _count(spec: DataSpec) -> int:
    """Return the number of modalities, or raise Incompatible if there is one kind of data alone."""
    if not spec.modalities:
        raise Incompatible(
            f"{spec.name} is of one kind: a recipe of several modalities needs two or more",
            where="modalities of data",
            expected="data of several modalities",
            fix="add the labels of labelled data as a second modality (--with-label, load_data(..., with_label=True)), "
            "or make such data by lowerbound.joined, or use the recipe vae",
        )
    return len(spec.modalities)


def weights_of(spec: DataSpec, balance: Balance) -> tuple[float, ...]:
    """Return the weight of each modality's nats in the loss: largest number of values over its own, or 1.

    Raises:
        UsageError: if the balance is neither "dims" nor "none".
    """
    if balance not in ("dims", "none"):
        raise UsageError(f"there is no balance {balance!r}", expected="dims or none")
    dims = [m.spec.dims for m in spec.modalities]
    return tuple(max(dims) / d if balance == "dims" else 1.0 for d in dims)


def _recipe(
    spec: DataSpec, posterior: Family, objective: Objective, hidden: tuple[int, ...], activation: Activation
) -> Recipe:
    """Return the recipe with an encoder and a decoder for each modality, prior N(0, I)."""
    expert, likelihood = Normal(posterior.event_shape), default_likelihood(spec)
    parts = [(m.spec, default_likelihood(m.spec)) for m in spec.modalities]
    seeing = ModalityEncoders(tuple(mlp_encoder(part, expert, hidden, activation) for part, _ in parts))
    making = [MLP(posterior.event_shape, family.params, hidden[::-1], activation) for _, family in parts]
    decoder = Conditional(ModalityDecoders(tuple(making)), likelihood)
    group = Flat(posterior, StandardNormal(posterior.event_shape))
    return Recipe(spec.settle("mixed"), Encoder([seeing]), (group,), decoder, objective, TRAINING)


@recipe
def mvae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    balance: Balance = "dims",
    drawn: int = 1,
    scored: Scored = "seen",
) -> Recipe:
    """VAE of several modalities with a product of experts: q(z|x) = p(z) prod_m q(z|x_m), over what is observed.

    Wu & Goodman 2018, "Multimodal Generative Models for Scalable Weakly-Supervised Learning", arXiv 1802.05335, eq. 4
    and 5: the loss also passes each modality alone and random sets of them.

    Args:
        spec: data of several modalities.
        latent_dim: number of latent dimensions.
        hidden: widths of each encoder's hidden layers; the decoders have them reversed.
        activation: activation of the hidden layers.
        balance: "dims" weighs a modality's nats in the loss by the largest number of values over its own, "none" by 1;
            reported numbers are never weighed.
        drawn: passes of each step that show the encoder a random set of modalities.
        scored: what a pass with some of the modalities scores: those the encoder has "seen", as in the paper, or all
            "observed" ones, which makes one modality from others more coherently and costs nats of the ELBO.
    """
    posterior = ProductOfExperts((latent_dim,), _count(spec))
    sizes = tuple(m.spec.dims for m in spec.modalities)
    objective = Subsets(WeighedELBO(weights_of(spec, balance)), sizes, drawn=drawn, scored=scored)
    return _recipe(spec, posterior, objective, hidden, activation)


@recipe
def mmvae(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    balance: Balance = "dims",
    num_samples: int = 1,
) -> Recipe:
    """VAE of several modalities with a mixture of experts: q(z|x) = 1/M sum_m q(z|x_m), over what is observed.

    Shi et al. 2019, "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models", arXiv
    1911.03393, eq. 2 and sec. 3.2: each expert's draws have to tell all modalities. The draws are stratified.

    Args:
        spec: data of several modalities.
        latent_dim: number of latent dimensions.
        hidden: widths of each encoder's hidden layers; the decoders have them reversed.
        activation: activation of the hidden layers.
        balance: "dims" weighs a modality's nats in the loss by the largest number of values over its own, "none" by 1;
            reported numbers are never weighed.
        num_samples: latent samples of each expert, for each example and step.
    """
    experts = _count(spec)
    objective = WeighedELBO(weights_of(spec, balance), num_samples * experts)
    return _recipe(spec, MixtureOfExperts((latent_dim,), experts), objective, hidden, activation)


@recipe
def mopoe(
    spec: DataSpec,
    *,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
    balance: Balance = "dims",
    num_samples: int = 1,
) -> Recipe:
    """VAE of several modalities with a mixture of products of experts: one product for each set of those observed.

    Sutter et al. 2021, "Generalized Multimodal ELBO", arXiv 2105.02470, eq. 6 and 7.

    Args:
        spec: data of several modalities.
        latent_dim: number of latent dimensions.
        hidden: widths of each encoder's hidden layers; the decoders have them reversed.
        activation: activation of the hidden layers.
        balance: "dims" weighs a modality's nats in the loss by the largest number of values over its own, "none" by 1;
            reported numbers are never weighed.
        num_samples: latent samples of each product, for each example and step.
    """
    experts = _count(spec)
    objective = WeighedELBO(weights_of(spec, balance), num_samples * (2**experts - 1))
    return _recipe(spec, MixtureOfProducts((latent_dim,), experts), objective, hidden, activation)
