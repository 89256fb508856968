"""Networks: from tensor to tensor, sized by the shapes they are given."""

from .columns import ColumnInputs
from .conv import ConvDecoder, ConvEncoder
from .counts import LogCounts
from .gated import GatedMLP
from .mlp import MLP, Activation
from .modalities import ModalityDecoders, ModalityEncoders
from .passing import Passing, Unchanged
from .pixelcnn import PixelCNN
from .recurrent import Recurrent
from .resnet import ResNet, ResNetDecoder
from .sequences import SequenceEncoder
from .spectral import SpectralNorm
from .transformer import Transformer

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
    "Passing",
    "PixelCNN",
    "Recurrent",
    "ResNet",
    "ResNetDecoder",
    "SequenceEncoder",
    "SpectralNorm",
    "Transformer",
    "Unchanged",
]
