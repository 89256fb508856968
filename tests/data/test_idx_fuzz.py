"""Whatever bytes a file holds, it is read as an array of its header's sizes or refused as DataError."""

import gzip
import tempfile
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx_files import header, images, pack

from lowerbound.core.errors import LowerboundError
from lowerbound.data import load_data
from lowerbound.data.idx import read_idx

few = settings(
    max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
codes = st.sampled_from([0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x00, 0xFF])
sizes = st.lists(st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1)), min_size=0, max_size=9).map(tuple)
headed = st.builds(lambda code, shape, body: header(code, shape) + body, codes, sizes, st.binary(max_size=80))
whole = pack(images(3))


def mutate(places):
    """Return a right file with some bytes replaced."""
    content = bytearray(whole)
    for place, byte in places:
        content[place % len(content)] = byte
    return bytes(content)


mutants = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6).map(mutate)
contents = st.one_of(st.binary(max_size=60), headed, mutants)


@contextmanager
def placed(content, suffix, *, packed):
    """Put the bytes into a file of a fresh folder and yield its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"train-images-idx3-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if packed else content)
        yield path


@few
@given(content=contents, suffix=st.sampled_from(["", ".gz"]), packed=st.booleans())
def test_reading_any_bytes_gives_an_array_or_a_data_error(content, suffix, packed):
    with placed(content, suffix, packed=packed) as path:
        try:
            found = read_idx(path)
        except LowerboundError as error:
            assert type(error).__name__ == "DataError"
            assert error.exit_code == 2
        else:
            assert isinstance(found, np.ndarray)
            assert len(content) == 4 + 4 * found.ndim + prod(found.shape) * found.itemsize


@few
@given(content=contents)
def test_loading_any_bytes_gives_data_or_one_of_our_errors(content):
    with placed(content, "", packed=False) as path:
        for source in (path, path.parent):
            try:
                data = load_data(source)
            except LowerboundError as error:
                assert error.exit_code == 2
            else:
                assert len(data.train) + len(data.valid) + len(data.test) >= 2
                assert bool(data.train.values().isfinite().all())
                assert data.spec.dims >= 1
