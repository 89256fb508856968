"""Families: from a tensor of parameters to a distribution. Each declares `params` and `support`."""

from .bernoulli import Bernoulli, GreyBernoulli
from .beta import Beta
from .columns import Columns
from .continuous_bernoulli import ContinuousBernoulli
from .counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson
from .covariance import FullNormal, LowRankNormal
from .delta import Delta
from .dequantized import Dequantized
from .discretized_logistic import DiscretizedLogistic, LogisticMixture
from .hyperbolic import WrappedNormal
from .laplace import Laplace
from .levels import Categorical
from .lognormal import LogNormal
from .modalities import Modalities
from .normal import FixedNormal, Normal, PerDimensionNormal, SharedNormal
from .onehot import OneHot
from .optimal import OptimalNormal
from .pixels import AutoregressivePixels
from .product import Product
from .relaxed import RelaxedBernoulli, RelaxedCategorical
from .sphere import VonMisesFisher
from .student import StudentT
from .symbols import Symbols

__all__ = [
    "AutoregressivePixels", "Bernoulli", "Beta", "Categorical", "Columns", "ContinuousBernoulli", "Delta",
    "Dequantized", "DiscretizedLogistic", "FixedNormal", "FullNormal", "GreyBernoulli", "Laplace", "LogNormal",
    "LogisticMixture", "LowRankNormal", "Modalities", "NegativeBinomial", "Normal", "OneHot", "OptimalNormal",
    "PerDimensionNormal", "Poisson", "Product", "RelaxedBernoulli", "RelaxedCategorical", "SharedNormal",
    "StudentT", "Symbols", "VonMisesFisher", "WrappedNormal",
    "ZeroInflatedNegativeBinomial", "ZeroInflatedPoisson",
]  # fmt: skip
