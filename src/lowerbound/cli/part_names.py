"""The names of parts on the command line, and the parts that need more than a shape to be made."""

from collections.abc import Callable
from math import prod
from typing import Any

from .. import families, objectives, posteriors, priors
from ..core.model import Conditional
from ..networks import MLP, PixelCNN, Recurrent
from ..posteriors.quantizers import Book
from ..recipes.sequences import FEW_LEVELS


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


def _places(event_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return where codes lie in place of a z of this shape; one stage of codes has an axis that z has not."""
    return event_shape[1:] if len(event_shape) > 1 and event_shape[0] == 1 else event_shape


def vector_quantizer(
    event_shape: tuple[int, ...], *, dim: int = 16, codes: int = 128, stages: int = 1, book: Book = "ema"
) -> posteriors.VectorQuantizer:
    """The nearest of several learned vectors at each place (van den Oord et al. 2017, arXiv 1711.00937, eq. 1 to 3).

    Args:
        event_shape: the recipe's shape of z, one place for each of its values.
        dim: length of a vector.
        codes: number of vectors.
        stages: number of codes at each place, each rounding what those before it left.
        book: "ema" (running means) or "gradient".
    """
    return posteriors.VectorQuantizer(_places(event_shape), dim, codes, stages, book=book)


def finite_scalar(
    event_shape: tuple[int, ...], *, levels: tuple[int, ...] = (5, 5, 5)
) -> posteriors.FiniteScalarQuantizer:
    """A vector of numbers rounded to a few levels at each place (Mentzer et al. 2024, arXiv 2309.15505, sec. 3).

    Args:
        event_shape: the recipe's shape of z, one place for each of its values.
        levels: number of levels of each number.
    """
    return posteriors.FiniteScalarQuantizer(_places(event_shape), levels)


def lookup_free(event_shape: tuple[int, ...], *, dim: int = 7) -> posteriors.LookupFreeQuantizer:
    """A vector of signs at each place (Yu et al. 2024, arXiv 2310.05737, eq. 5 and 6).

    Args:
        event_shape: the recipe's shape of z, one place for each of its values.
        dim: number of signs.
    """
    return posteriors.LookupFreeQuantizer(_places(event_shape), dim)


def pixel_by_pixel(
    event_shape: tuple[int, ...], *, levels: int = 2, channels: int = 16, blocks: int = 2
) -> families.AutoregressivePixels:
    """Each pixel given those before it (Gulrajani et al. 2017, arXiv 1611.05013, sec. 3.1), of 0/1 values or levels.

    Args:
        event_shape: shape of one image.
        levels: how many levels there are.
        channels: of the causal convolutions.
        blocks: of gated layers.
    """
    family = families.Bernoulli(event_shape) if levels == 2 else families.Categorical(event_shape, levels)
    if levels > FEW_LEVELS:
        family = families.DiscretizedLogistic(event_shape, levels)
    out_shape = (prod(family.params[:-2]), *event_shape[-2:])
    return families.AutoregressivePixels(family, PixelCNN(event_shape, out_shape, channels, blocks, channels))


def symbols(
    event_shape: tuple[int, ...], *, levels: int = 2, width: int = 64, word_dropout: float = 0.0
) -> families.Symbols:
    """Each level given those before it, by a GRU (Bowman et al. 2016, arXiv 1511.06349, sec. 2).

    Args:
        event_shape: shape of one example.
        levels: how many levels there are.
        width: of the recurrent network.
        word_dropout: probability that a level is hidden from the network, in training.
    """
    places = prod(event_shape)
    network = Recurrent((places,), (places, levels), levels + 2, width, context=width)
    return families.Symbols(event_shape, levels, network, max(levels - 1, 1), word_dropout, ends=False)


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
        "pixel_by_pixel": pixel_by_pixel,
        "poisson": families.Poisson,
        "shared_normal": families.SharedNormal,
        "student_t": families.StudentT,
        "symbols": symbols,
        "zero_inflated_negative_binomial": families.ZeroInflatedNegativeBinomial,
        "zero_inflated_poisson": families.ZeroInflatedPoisson,
    },
    "posterior": {
        "beta": families.Beta,
        "delta": families.Delta,
        "finite_scalar": finite_scalar,
        "full_normal": families.FullNormal,
        "iaf": posteriors.IAF,
        "laplace": families.Laplace,
        "low_rank_normal": families.LowRankNormal,
        "lookup_free": lookup_free,
        "maf": posteriors.MAF,
        "normal": families.Normal,
        "one_hot": one_hot,
        "planar": posteriors.Planar,
        "radial": posteriors.Radial,
        "relaxed_bernoulli": families.RelaxedBernoulli,
        "relaxed_categorical": relaxed_categorical,
        "spline": posteriors.SplineFlow,
        "student_t": families.StudentT,
        "vector_quantizer": vector_quantizer,
        "von_mises_fisher": families.VonMisesFisher,
        "wrapped_normal": families.WrappedNormal,
    },
    "prior": {
        "conditional": conditional,
        "diffusion": priors.Diffusion,
        "exemplar": priors.ExemplarPrior,
        "flow": priors.FlowPrior,
        "flow_matching": priors.FlowMatching,
        "hyperspherical_uniform": priors.HypersphericalUniform,
        "learned_normal": priors.LearnedNormal,
        "mixture": priors.MixtureOfNormals,
        "pixel_cnn": priors.PixelCNNPrior,
        "relaxed_uniform": priors.RelaxedUniform,
        "standard_normal": priors.StandardNormal,
        "transformer": priors.TransformerPrior,
        "two_stage": priors.TwoStage,
        "uniform_codes": priors.UniformCodes,
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
