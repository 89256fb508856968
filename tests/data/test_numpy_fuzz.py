"""Whatever bytes a NumPy file holds, it is read as arrays of the sizes it claims or refused as DataError."""

import io
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowerbound.core.errors import LowerboundError
from lowerbound.data.numpy_files import Arrays, read_arrays, read_npy, read_npz

few = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
X, Y = np.arange(5 * 3 * 2, dtype=np.float32).reshape(5, 3, 2), np.array(["a", "b", "a", "\u05d0", "b"])


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def headed(descr, fortran, shape, body=b"", minor=0):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}".encode("latin1", "replace")
    return b"\x93NUMPY\x01" + bytes([minor]) + len(text).to_bytes(2, "little") + text + body


def zipped(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, content in enumerate(members):
            archive.writestr(f"{'xy'[i]}.npy", content)
    return stream.getvalue()


NPY, STORED = saved(X), io.BytesIO()
np.savez(STORED, x=X, y=Y)
WHOLE = {"some.npy": [NPY], "some.npz": [STORED.getvalue(), zipped(NPY, saved(Y))]}
READERS = {"some.npy": read_npy, "some.npz": read_npz}

descrs = st.one_of(
    st.sampled_from(["<f4", ">i2", "|b1", "<U3", "<U0", "|S0", "|O", "<c8", "|V5", "<M8[s]", "|u1", "<f16"]),
    st.sampled_from([("<f4", (2,)), [("a", "<f4"), ("b", "|O")], [], [[]], 3, None, "<U536870911", "<f4,<f4"]),
    st.text(max_size=5),
)
sizes = st.one_of(st.integers(-3, 6), st.integers(-(2**70), 2**70), st.booleans(), st.just("a"))
shapes = st.one_of(st.lists(sizes, max_size=5).map(tuple), st.lists(st.integers(0, 6), max_size=3), st.integers())
fortran = st.sampled_from([True, False, 0, None])
lying = st.builds(headed, descrs, fortran, shapes, st.binary(max_size=90), st.integers(0, 2))
flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4)


def flipped(content, places):
    changed = bytearray(content)
    for place, bit in places:
        changed[int(place * len(changed))] ^= 1 << bit
    return bytes(changed)


def check(name, content):
    """Read the bytes under that name in every way there is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            found = READERS[name](path)
        except LowerboundError as error:
            assert type(error).__name__ == "DataError"
            assert error.exit_code == 2
            assert len(str(error)) < 3000
        else:
            for array in found.values() if isinstance(found, dict) else [found]:
                assert array.dtype.kind in "biufSU"
                assert len(array.tolist() if array.ndim else [0]) == (array.shape[0] if array.ndim else 1)
                assert array.nbytes <= max(1 << 20, len(content))
        try:
            assert isinstance(read_arrays(path), Arrays)
        except LowerboundError as error:
            assert type(error).__name__ == "DataError"


@pytest.mark.parametrize("name", WHOLE)
@few
@given(data=st.data())
def test_files_cut_short(name, data):
    whole = data.draw(st.sampled_from(WHOLE[name]))
    check(name, whole[: data.draw(st.integers(0, len(whole)))] + data.draw(st.binary(max_size=3)))


@pytest.mark.parametrize("name", WHOLE)
@few
@given(data=st.data(), places=flips)
def test_files_with_flipped_bits(name, data, places):
    check(name, flipped(data.draw(st.sampled_from(WHOLE[name])), places))


@few
@given(content=lying)
def test_headers_that_lie(content):
    check("some.npy", content)
    check("some.npz", zipped(content, saved(Y)))


@few
@given(content=st.binary(max_size=80), name=st.sampled_from(sorted(WHOLE)))
def test_any_bytes(content, name):
    check(name, content)
    check("some.npz", zipped(content))
    check("some.npy", b"\x93NUMPY\x01\x00" + content)


def test_a_header_that_claims_ten_terabytes_costs_nothing():
    for shape in ((10 * 2**40 // 4,), (2**20, 10 * 2**18), (0, 10 * 2**38)):
        content = headed("<f4", False, shape, bytes(12))
        tracemalloc.start()
        try:
            check("some.npy", content)
            check("some.npz", zipped(content))
            assert tracemalloc.get_traced_memory()[1] < 50e6
        finally:
            tracemalloc.stop()
