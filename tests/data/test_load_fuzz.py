"""Whatever lies at a path, `load_data` gives data or a LowerboundError, soon and within bounded memory."""

import gzip
import io
import struct
import tempfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from PIL import Image

from lowerbound import load_data
from lowerbound.core.errors import DataError, LowerboundError
from lowerbound.data import Data

few = settings(max_examples=30, deadline=5000, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
MOST_BYTES = 200 << 20
SECONDS = 5.0


def png(seed=0):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def array(save, *arrays, **named):
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def parquet():
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": np.arange(20.0), "b": ["x", "y"] * 10}), stream)
    return stream.getvalue()


VALUES = np.random.default_rng(1).normal(size=(20, 3))
CSV = ("a,b\n" + "".join(f"{i}.5,{'xy'[i % 2]}\n" for i in range(20))).encode()
IDX = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 4, 4) + bytes(range(80))
WHOLE = {
    "photos/a.png": png(),
    "a.csv": CSV,
    "a.csv.gz": gzip.compress(CSV, mtime=0),
    "a.parquet": parquet(),
    "a.npy": array(np.save, VALUES),
    "a.npz": array(np.savez, x=VALUES, y=np.arange(20) % 2),
    "a-idx3-ubyte": IDX,
    "a-idx3-ubyte.gz": gzip.compress(IDX, mtime=0),
    "idx/train-images-idx3-ubyte.gz": gzip.compress(IDX, mtime=0),
}
names = st.sampled_from(sorted(WHOLE))


def loaded(name, content):
    """Load a file of this content (and the folder it lies in, if it has one); None if that is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        if name.startswith("photos"):
            for i in range(3):
                (path.parent / f"b{i}.png").write_bytes(png(i))
        tracemalloc.start()
        started = time.monotonic()
        try:
            data = load_data(path if path.parent == Path(folder) else path.parent)
        except LowerboundError as error:
            assert all(line.isprintable() for line in str(error).split("\n"))
            data = None
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert time.monotonic() - started < SECONDS
        assert peak < MOST_BYTES
    assert data is None or isinstance(data, Data)
    return data


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_right_files_are_read(name):
    # Without this, refusing everything would pass.
    data = loaded(name, WHOLE[name])
    assert data is not None
    assert len(data.train) + len(data.valid) + len(data.test) == (4 if "photos" in name else 5 if "idx" in name else 20)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_empty_files_are_refused(name):
    assert loaded(name, b"") is None


@few
@given(name=names, share=st.floats(0, 1, exclude_max=True))
def test_truncated_files(name, share):
    loaded(name, WHOLE[name][: int(share * len(WHOLE[name]))])


@few
@given(name=names, flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1))
def test_files_with_flipped_bits(name, flips):
    content = bytearray(WHOLE[name])
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    loaded(name, bytes(content))


@few
@given(name=names, content=st.binary(max_size=300), head=st.integers(0, 16))
def test_random_bytes_after_a_right_start(name, content, head):
    loaded(name, WHOLE[name][:head] + content)


@few
@given(name=names, other=names)
def test_files_under_the_name_of_another_kind(name, other):
    loaded(name, WHOLE[other])


# --- files of a few kilobytes that claim gigabytes -------------------------------------------------------------------


def gzip_of(size):
    """A gzip file of so many zeros, made in pieces."""
    packer, parts = zlib.compressobj(9, zlib.DEFLATED, 31), []
    for _ in range(size >> 20):
        parts.append(packer.compress(bytes(1 << 20)))
    return b"".join([*parts, packer.flush()])


def lying_png():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(900))) + chunk(b"IEND", b"")


def lying_npy():
    stream = io.BytesIO()
    head = {"descr": "<f8", "fortran_order": False, "shape": (1 << 33, 4)}
    npy_format.write_array_header_1_0(stream, head)
    return stream.getvalue() + bytes(500)


def lying_npz(claim=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", lying_npy())
    content = stream.getvalue()
    true = struct.pack("<I", len(lying_npy()))
    return content if claim is None else content.replace(true, struct.pack("<I", claim))


LIES = {
    "photos/a.png": lying_png(),
    "a.npy": lying_npy(),
    "a.npz": lying_npz(),
    "b.npz": lying_npz(0xFFFF_FFF0),
    "a-idx3-ubyte": struct.pack(">BBBBIII", 0, 0, 8, 3, 60_000, 9_000, 9_000) + bytes(900),
    "a-idx3-ubyte.gz": gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 60_000, 9_000, 9_000) + bytes(900)),
    "b-idx3-ubyte.gz": gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 4, 4)) + gzip_of(256 << 20),
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_what_claims_gigabytes_is_refused_before_they_are_taken(name):
    assert loaded(name, LIES[name]) is None


def test_a_table_packed_a_thousandfold_is_read_in_pieces(monkeypatch):
    # 256 MB of zeros in 256 kB, for a limit of 64 MB: the whole is never held.
    monkeypatch.setattr("lowerbound.data.table_files.MAX_FILE_BYTES", 64 << 20)
    assert loaded("a.csv.gz", gzip_of(256 << 20)) is None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.csv.gz").write_bytes(gzip_of(256 << 20))
        with pytest.raises(DataError, match=r"more than 0\.0625 GiB"):
            load_data(Path(folder) / "a.csv.gz")
