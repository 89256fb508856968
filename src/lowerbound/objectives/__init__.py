"""Objectives: each reads a trace and returns losses to minimise and terms to report."""

from .adversarial import AAE
from .balanced import Balanced
from .capacity import Capacity
from .corrupt import Corrupt
from .dip import DIP
from .doubly import STL, DReG
from .elbo import ELBO
from .factor import FactorVAE
from .free_bits import FreeBits
from .geco import GECO
from .hamiltonian import Hamiltonian
from .hsic import HSIC
from .iwae import IWAE
from .label import LabelELBO
from .lagging import Lagging
from .mmd import MMD
from .modalities import Subsets, WeighedELBO
from .multi_sample import CIWAE, MIWAE, PIWAE
from .perceptual import Perceptual
from .reconstruction import Reconstruction
from .regularized_autoencoder import RAE
from .renyi import Renyi
from .simple import SimpleRegularizer
from .spectral import SpectralPenalty
from .ssim import SSIM
from .total_correlation import TotalCorrelation
from .vae_gan import VAEGAN

__all__ = [
    "AAE",
    "CIWAE",
    "DIP",
    "ELBO",
    "GECO",
    "HSIC",
    "IWAE",
    "MIWAE",
    "MMD",
    "PIWAE",
    "RAE",
    "SSIM",
    "STL",
    "VAEGAN",
    "Balanced",
    "Capacity",
    "Corrupt",
    "DReG",
    "FactorVAE",
    "FreeBits",
    "Hamiltonian",
    "LabelELBO",
    "Lagging",
    "Perceptual",
    "Reconstruction",
    "Renyi",
    "SimpleRegularizer",
    "SpectralPenalty",
    "Subsets",
    "TotalCorrelation",
    "WeighedELBO",
]  # fmt: skip
