"""The names of parts on the command line, and the parts that need more than a shape to be made."""

from collections.abc import Callable
from typing import Any

from .. import families, objectives, posteriors, priors
from ..core.model import Conditional
from ..networks import MLP


def conditional(event_shape: tuple[int, ...], num_classes: int, *, hidden: tuple[int, ...] = ()) -> Any:
    """p(z|y): a Normal whose mean and variance are read from the label (Sohn et al. 2015, NeurIPS, eq. 4).

    Args:
        event_shape: shape of z.
        num_classes: number of labels.
        hidden: widths of the hidden layers of its network.
    """
    family = families.Normal(event_shape)
    network = MLP((max(num_classes, 1),), family.params, hidden)
    return priors.ConditionalPrior(Conditional(network, family))


def one_hot(event_shape: tuple[int, ...], *, categories: int = 10) -> families.OneHot:
    """Each latent one of several categories, as a one-hot vector (Kingma et al. 2014, arXiv 1406.5298, sec. 2.2).

    Args:
        event_shape: the recipe's shape of z, one categorical variable for each of its values.
        categories: number of categories.
    """
    return families.OneHot((*event_shape, categories))


def relaxed_categorical(
    event_shape: tuple[int, ...], *, categories: int = 10, temperature: float = 0.67
) -> families.RelaxedCategorical:
    """Each latent a relaxed categorical variable (Maddison et al. 2017, arXiv 1611.00712, eq. 10).

    Args:
        event_shape: the recipe's shape of z, one categorical variable for each of its values.
        categories: number of categories.
        temperature: of the relaxation; 0 would be categories.
    """
    return families.RelaxedCategorical((*event_shape, categories), temperature)


NAMES: dict[str, dict[str, Callable[..., Any]]] = {
    "likelihood": {
        "bernoulli": families.Bernoulli,
        "beta": families.Beta,
        "categorical": families.Categorical,
        "continuous_bernoulli": families.ContinuousBernoulli,
        "dequantized_normal": families.Dequantized,
        "discretized_logistic": families.DiscretizedLogistic,
        "fixed_normal": families.FixedNormal,
        "full_normal": families.FullNormal,
        "grey_bernoulli": families.GreyBernoulli,
        "laplace": families.Laplace,
        "log_normal": families.LogNormal,
        "logistic_mixture": families.LogisticMixture,
        "low_rank_normal": families.LowRankNormal,
        "negative_binomial": families.NegativeBinomial,
        "normal": families.Normal,
        "optimal_normal": families.OptimalNormal,
        "per_dimension_normal": families.PerDimensionNormal,
        "poisson": families.Poisson,
        "shared_normal": families.SharedNormal,
        "student_t": families.StudentT,
        "zero_inflated_negative_binomial": families.ZeroInflatedNegativeBinomial,
        "zero_inflated_poisson": families.ZeroInflatedPoisson,
    },
    "posterior": {
        "beta": families.Beta,
        "delta": families.Delta,
        "full_normal": families.FullNormal,
        "iaf": posteriors.IAF,
        "laplace": families.Laplace,
        "low_rank_normal": families.LowRankNormal,
        "maf": posteriors.MAF,
        "normal": families.Normal,
        "one_hot": one_hot,
        "planar": posteriors.Planar,
        "radial": posteriors.Radial,
        "relaxed_bernoulli": families.RelaxedBernoulli,
        "relaxed_categorical": relaxed_categorical,
        "spline": posteriors.SplineFlow,
        "student_t": families.StudentT,
        "von_mises_fisher": families.VonMisesFisher,
        "wrapped_normal": families.WrappedNormal,
    },
    "prior": {
        "conditional": conditional,
        "exemplar": priors.ExemplarPrior,
        "flow": priors.FlowPrior,
        "flow_matching": priors.FlowMatching,
        "hyperspherical_uniform": priors.HypersphericalUniform,
        "learned_normal": priors.LearnedNormal,
        "mixture": priors.MixtureOfNormals,
        "relaxed_uniform": priors.RelaxedUniform,
        "standard_normal": priors.StandardNormal,
        "two_stage": priors.TwoStage,
        "uniform_one_hot": priors.UniformOneHot,
        "vamp": priors.VampPrior,
        "wrapped_normal": priors.WrappedNormalPrior,
    },
    "objective": {
        "aae": objectives.AAE,
        "capacity": objectives.Capacity,
        "ciwae": objectives.CIWAE,
        "dip": objectives.DIP,
        "dreg": objectives.DReG,
        "elbo": objectives.ELBO,
        "factor_vae": objectives.FactorVAE,
        "free_bits": objectives.FreeBits,
        "geco": objectives.GECO,
        "hamiltonian": objectives.Hamiltonian,
        "hsic": objectives.HSIC,
        "iwae": objectives.IWAE,
        "label_elbo": objectives.LabelELBO,
        "lagging": objectives.Lagging,
        "miwae": objectives.MIWAE,
        "mmd": objectives.MMD,
        "piwae": objectives.PIWAE,
        "rae": objectives.RAE,
        "reconstruction": objectives.Reconstruction,
        "renyi": objectives.Renyi,
        "simple_regularizer": objectives.SimpleRegularizer,
        "ssim": objectives.SSIM,
        "stl": objectives.STL,
        "total_correlation": objectives.TotalCorrelation,
        "vae_gan": objectives.VAEGAN,
    },
}
