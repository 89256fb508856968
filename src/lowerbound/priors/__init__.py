"""Priors p(z) or p(z|y)."""

from .autoregressive import PixelCNNPrior, TransformerPrior
from .codes import UniformCodes
from .curved import ProductPrior, WrappedNormalPrior
from .diffusion import Diffusion
from .discrete import RelaxedUniform, UniformOneHot
from .exemplar import ExemplarPrior
from .flow import FlowPrior
from .flow_matching import FlowMatching
from .mixture import LearnedNormal, MixtureOfNormals
from .sphere import HypersphericalUniform
from .standard import ConditionalPrior, StandardNormal
from .two_stage import TwoStage
from .vamp import VampPrior

__all__ = [
    "ConditionalPrior", "Diffusion", "ExemplarPrior", "FlowMatching", "FlowPrior", "HypersphericalUniform",
    "LearnedNormal", "MixtureOfNormals", "PixelCNNPrior", "ProductPrior", "RelaxedUniform", "StandardNormal",
    "TransformerPrior", "TwoStage", "UniformCodes", "UniformOneHot", "VampPrior", "WrappedNormalPrior",
]  # fmt: skip
