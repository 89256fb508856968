"""Data: by name or by path, to tensors and a `DataSpec`."""

from ..core.spec import DataSpec
from .arrays import from_arrays
from .builtin import BUILTIN
from .dataset import Data, Dataset
from .load import load_data, load_rows
from .modalities import joined, with_label
from .sequences import from_sequences, to_sequences
from .streams import from_stream

__all__ = [
    "BUILTIN", "Data", "DataSpec", "Dataset", "from_arrays", "from_sequences", "from_stream", "joined", "load_data",
    "load_rows", "to_sequences", "with_label",
]  # fmt: skip
