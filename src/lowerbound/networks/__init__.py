"""Networks: from tensor to tensor, sized by the shapes they are given."""

from .columns import ColumnInputs
from .conv import ConvDecoder, ConvEncoder
from .counts import LogCounts
from .gated import GatedMLP
from .mlp import MLP, Activation
from .modalities import ModalityDecoders, ModalityEncoders
from .resnet import ResNet
from .spectral import SpectralNorm

__all__ = [
    "MLP",
    "Activation",
    "ColumnInputs",
    "ConvDecoder",
    "ConvEncoder",
    "GatedMLP",
    "LogCounts",
    "ModalityDecoders",
    "ModalityEncoders",
    "ResNet",
    "SpectralNorm",
]
