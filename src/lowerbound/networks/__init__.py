"""Networks: from tensor to tensor, sized by the shapes they are given."""

from .columns import ColumnInputs
from .conv import ConvDecoder, ConvEncoder
from .mlp import MLP, Activation

__all__ = ["MLP", "Activation", "ColumnInputs", "ConvDecoder", "ConvEncoder"]
