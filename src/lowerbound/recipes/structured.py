"""Latents of several kinds, labels as latents, and draws that are moved."""

from ..core.errors import UsageError
from ..core.model import Conditional, Encoder
from ..core.objective import Objective
from ..core.recipe import Recipe, recipe
from ..core.spec import DataSpec
from ..families import Delta, Normal, OneHot, RelaxedCategorical
from ..groups import Beside, Conditioned, Flat
from ..networks import MLP, Activation
from ..objectives import Capacity, Hamiltonian, LabelELBO
from ..priors import ConditionalPrior, RelaxedUniform, StandardNormal, UniformOneHot
from ..train.schedules import Linear
from .parts import TRAINING, default_likelihood, half_of_training, mlp_encoder, mlp_recipe


@recipe
def m2(
    spec: DataSpec,
    *,
    labelled: float = 0.1,
    classifier_weight: float = 1.0,
    label_seed: int = 0,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Semi-supervised VAE (M2): a bound on log p(x, y) of rows with a label, and on log p(x) of those without.

    Kingma et al. 2014, "Semi-supervised Learning with Deep Generative Models", arXiv 1406.5298, eq. 2, 4 and 6 to 9.
    The label is the top latent: `encode` gives q(y|x), and `decode` of one-hot labels draws these classes.

    Args:
        spec: the data, with labels.
        labelled: share of the training rows whose label is shown (up to 1), or their number (above 1).
        classifier_weight: alpha, the weight of the cross-entropy of the shown labels; the paper has 0.1.
        label_seed: decides which labels are shown.
        latent_dim: number of latent dimensions beside the label.
        hidden: widths of the hidden layers of classifier and encoder; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    if labelled == 0:
        raise UsageError("m2 was given no labels", expected="labelled above 0", fix="without labels, use gmvae")
    objective = LabelELBO(labelled, classifier_weight, seed=label_seed)
    # on data without labels any number of classes will do: the rule that refuses them names the reason
    return _with_label(spec, max(spec.num_classes, 2), objective, latent_dim, hidden, activation, keeps_label=True)


@recipe
def gmvae(
    spec: DataSpec,
    *,
    clusters: int = 10,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """VAE of clusters: p(y) uniform, p(z|y) a normal for each cluster, p(x|z); q(y|x) q(z|x, y), summed over y.

    The generative model of Jiang et al. 2017 (VaDE), arXiv 1611.05148, sec. 3.1, with equal shares; the posterior and
    the sum over y of M2 without labels (Kingma et al. 2014, arXiv 1406.5298, eq. 7), as Shu 2016 put them together.
    The model of Dilokthanakul et al. 2016, arXiv 1611.02648, has one more latent, which bends the clusters.

    Args:
        spec: the data.
        clusters: number of clusters.
        latent_dim: number of latent dimensions.
        hidden: widths of the hidden layers of both encoders; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    if not isinstance(clusters, int) or clusters < 2:
        raise UsageError(f"the number of clusters cannot be {clusters}", expected="a whole number of at least 2")
    objective = LabelELBO(labelled=0.0)
    return _with_label(spec, clusters, objective, latent_dim, hidden, activation, keeps_label=False)


def _with_label(
    spec: DataSpec,
    classes: int,
    objective: Objective,
    latent_dim: int,
    hidden: tuple[int, ...],
    activation: Activation,
    *,
    keeps_label: bool,
) -> Recipe:
    """Return a recipe with a label above a normal z; the decoder reads both, or z alone and p(z|y) reads the label."""
    label, z, likelihood = OneHot((classes,)), Normal((latent_dim,)), default_likelihood(spec)
    feature = Delta(hidden[-1:] or (latent_dim,))  # a point: what q(z|x, y) reads of x
    encoder = Encoder([mlp_encoder(spec, part, hidden, activation) for part in (label, feature)])
    prior = StandardNormal((latent_dim,))
    if not keeps_label:
        means = Normal((latent_dim,))
        prior = ConditionalPrior(Conditional(MLP((classes,), means.params, hidden=()), means))
    inside = MLP((feature.event_shape[0] + classes,), z.params, hidden[-1:], activation)
    groups = (
        Flat(label, UniformOneHot((classes,))),
        Conditioned(inside, z, prior, keeps_state=keeps_label),
    )
    width = latent_dim + classes * keeps_label
    decoder = Conditional(MLP((width,), likelihood.params, hidden[::-1], activation), likelihood)
    return Recipe(spec.settle(likelihood.support), encoder, groups, decoder, objective, TRAINING)


@recipe
def joint_vae(
    spec: DataSpec,
    *,
    latent_dim: int = 10,
    categories: int = 10,
    temperature: float = 0.67,
    gamma: float = 30.0,
    capacity: tuple[float, float] = (5.0, 5.0),
    grown: int | None = None,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """JointVAE: a normal and a relaxed categorical latent side by side, each rate held at a capacity that grows.

    Dupont 2018, "Learning Disentangled Joint Continuous and Discrete Representations", arXiv 1804.00104, eq. 7. The
    rate of the categorical latent is that of its relaxed density, and not that of a categorical variable.

    Args:
        spec: the data.
        latent_dim: number of continuous dimensions.
        categories: number of categories.
        temperature: of the relaxed categorical posterior and prior.
        gamma: weight of the distance of each rate from its capacity.
        capacity: final capacities in nats, of the continuous and of the categorical latent.
        grown: steps over which the capacities grow from 0; None: half of those of the recipe's own epochs and batches.
        hidden: widths of the encoders' hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    z, c = Normal((latent_dim,)), RelaxedCategorical((categories,), temperature)
    likelihood = default_likelihood(spec)
    encoder = Encoder([mlp_encoder(spec, part, hidden, activation) for part in (z, c)])
    groups = (Flat(z, StandardNormal((latent_dim,))), Beside(c, RelaxedUniform((categories,), temperature)))
    decoder = MLP((latent_dim + categories,), likelihood.params, hidden[::-1], activation)
    steps = half_of_training(spec) if grown is None else grown
    held = tuple(Linear(0.0, nats, steps) if steps else nats for nats in capacity)
    objective, settled = Capacity(gamma, held), spec.settle(likelihood.support)
    return Recipe(settled, encoder, groups, Conditional(decoder, likelihood), objective, TRAINING)


@recipe
def hamiltonian_vae(
    spec: DataSpec,
    *,
    num_steps: int = 3,
    step_size: float = 0.05,
    tempering: bool = True,
    latent_dim: int = 20,
    hidden: tuple[int, ...] = (512, 256),
    activation: Activation = "silu",
) -> Recipe:
    """Hamiltonian VAE: draws of q take leapfrog steps towards the posterior, inside a bound on log p(x).

    Caterini et al. 2018, "Hamiltonian Variational Auto-Encoder", arXiv 1805.11328, algorithm 1. The model that is kept
    has q without the steps: `evaluate` reports the bounds of q.

    Args:
        spec: the data.
        num_steps: number of leapfrog steps.
        step_size: where the learned step size of each dimension starts.
        tempering: learn how hot the first momentum is.
        latent_dim: number of latent dimensions.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        activation: activation of the hidden layers.
    """
    objective = Hamiltonian(num_steps, step_size=step_size, step_shape=(latent_dim,), tempering=tempering)
    return mlp_recipe(spec, Normal((latent_dim,)), objective, hidden, activation)
