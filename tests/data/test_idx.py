"""IDX files: every type there and back, and every way in which one can be wrong."""

import gzip
import tracemalloc
from math import prod

import numpy as np
import pytest
from idx_files import CODES, header, images, pack, write

from lowerbound.core.errors import DataError
from lowerbound.data.idx import read_idx

MIB = 1 << 20


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (2, 3, 5), (2, 1, 3, 1, 4)])
@pytest.mark.parametrize("kind", CODES)
def test_every_type_there_and_back(kind, shape, suffix, tmp_path):
    values = np.random.default_rng(len(shape)).normal(0, 50, shape)
    array = np.clip(values, 0, 255).astype(kind) if kind == "u1" else values.astype(kind)
    found = read_idx(write(tmp_path / f"a-idx{suffix}", array))
    assert found.dtype == np.dtype(kind)
    assert found.dtype.isnative
    assert found.shape == shape
    np.testing.assert_array_equal(found, array)


def test_the_name_does_not_decide_whether_a_file_is_unpacked(tmp_path):
    array = images(3)
    (tmp_path / "a").write_bytes(gzip.compress(pack(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_what_was_read_may_be_written_to(tmp_path):
    found = read_idx(write(tmp_path / "a", images(3)))
    found[0] = 7
    assert (found[0] == 7).all()


def refused(path, *words):
    with pytest.raises(DataError) as caught:
        read_idx(path)
    for word in (str(path), *words):
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("change", [-1, 1, -20, 4000])
def test_a_file_shorter_or_longer_than_its_header_says(change, suffix, tmp_path):
    whole = pack(images(3))
    content = whole[:change] if change < 0 else whole + bytes(change)
    refused(write(tmp_path / f"a{suffix}", content), "expected 60", "(3, 5, 4)")


@pytest.mark.parametrize("length", range(16))
def test_a_file_that_ends_inside_its_header(length, tmp_path):
    refused(write(tmp_path / "a", pack(images(3))[:length]))


@pytest.mark.parametrize(
    "magic",
    [b"\0\0\x07\x03", b"\0\0\x0a\x03", b"\1\0\x08\x03", b"\0\0\x08\0", b"\0\0\x08\x09", b"\x93NUM", b"PK\x03\x04"],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_wrong_magic_number(magic, suffix, tmp_path):
    refused(write(tmp_path / f"a{suffix}", magic + pack(images(3))[4:]), "not an IDX file")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "shape", [(2**32 - 1,), (2**32 - 1,) * 8, (60_000, 2**31, 2**31), (2**31, 3, 1), (1 << 30, 5, 1)]
)
def test_a_header_that_asks_for_huge_sizes_costs_no_memory(shape, suffix, tmp_path):
    path = write(tmp_path / f"a{suffix}", header(CODES["u1"], shape) + bytes(10))
    tracemalloc.start()
    try:
        refused(path, "8 GiB or less" if prod(shape) > 8 << 30 else "10 bytes")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB


def test_a_packed_file_that_unpacks_to_more_than_its_header_says_is_not_unpacked_whole(tmp_path):
    path = write(tmp_path / "a.gz", header(CODES["u1"], (1000,)) + bytes(100 * MIB))
    tracemalloc.start()
    try:
        refused(path, "more than 1,000")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>403 Forbidden</html>", b"{}", bytes(8), b"\x1f\x8c"])
def test_a_page_of_a_server_saved_under_the_name_of_a_packed_file(content, tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    refused(path, "not a gzip file", "download it again")


def test_every_truncation_and_every_flipped_bit_of_a_packed_file(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    packed = gzip.compress(pack(array), mtime=0)
    path = tmp_path / "a.gz"
    for length in range(len(packed)):
        path.write_bytes(packed[:length])
        refused(path)
    refusals = 0
    for place in range(10, len(packed)):  # the first ten bytes are gzip's own header: time stamp and the like
        for bit in range(8):
            damaged = bytearray(packed)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:  # a few bits pad the last byte and mean nothing: then the values are the right ones
                np.testing.assert_array_equal(read_idx(path), array)
            except DataError:
                refusals += 1
    assert refusals > 8 * (len(packed) - 10) - 10


def test_a_folder_and_a_missing_file(tmp_path):
    refused(tmp_path, "cannot be read")
    refused(tmp_path / "missing", "cannot be read")
