"""Whatever bytes an image file holds, it is read as an image or refused as DataError, within bounded memory."""

import io
import resource
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lowerbound.core.errors import LowerboundError
from lowerbound.data.images import Images, read_images

few = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
H, W = 9, 13


def packed(kind, **options):
    """Return a right file of a format."""
    values = np.random.default_rng(3).integers(0, 256, (H, W, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    extra = {} if kind == "GIF" else {"exif": exif}
    Image.fromarray(values).save(stream, kind, **extra, **options)
    return stream.getvalue()


WHOLE = {
    "png": packed("PNG"),
    "jpg": packed("JPEG"),
    "webp": packed("WEBP"),
    "gif": packed("GIF"),
    "tif": packed("TIFF", compression="tiff_lzw"),
}
small, huge = st.integers(0, 1000), st.integers(10_001, 65535)  # between them is what may well be right, and slow
sizes = st.one_of(st.tuples(small, small), st.tuples(huge, huge))
formats = st.sampled_from(sorted(WHOLE))


def check(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(content)
        try:
            found = read_images(Path(folder), alpha="white")
        except LowerboundError as error:
            assert type(error).__name__ == "DataError"
            assert f"a.{suffix}" in str(error)
            assert all(line.isprintable() for line in str(error).split("\n"))
            return None
    assert isinstance(found, Images)
    assert found.x.dtype == np.uint8
    assert found.x.shape[:1] == (1,)
    assert found.x.shape[1] in (1, 3)
    return found


@pytest.fixture(autouse=True, scope="module")
def bounded():
    """Refuse a peak of memory that no file of some hundred bytes should need."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # in KiB


@pytest.mark.parametrize("suffix", sorted(WHOLE))
def test_the_right_files_are_read(suffix):
    found = check(WHOLE[suffix], suffix)
    assert found is not None
    assert found.x.shape == (1, 3, *((H, W) if suffix == "gif" else (W, H)))


@few
@given(suffix=formats, share=st.floats(0, 1, exclude_max=True))
def test_truncated_at_any_byte(suffix, share):
    whole = WHOLE[suffix]
    check(whole[: int(share * len(whole))], suffix)


@few
@given(suffix=formats, flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1))
def test_flipped_bits(suffix, flips):
    content = bytearray(WHOLE[suffix])
    for share, bit in flips:
        content[int(share * len(content))] ^= 1 << bit
    found = check(bytes(content), suffix)
    if found is not None and suffix == "png":  # it has checksums; only those of its end mean nothing
        right = check(WHOLE["png"], "png")
        assert right is not None
        np.testing.assert_array_equal(found.x, right.x)


@few
@given(suffix=formats, flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_headers(suffix, flips):
    content = bytearray(WHOLE[suffix])
    for place, byte in flips:
        content[place] = byte
    check(bytes(content), suffix)


@few
@given(suffix=st.sampled_from(["jpg", "gif", "webp"]), size=sizes)
def test_headers_that_claim_any_size(suffix, size):
    width, height = size
    content = bytearray(WHOLE[suffix])
    if suffix == "jpg":
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
    elif suffix == "gif":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        place = content.index(b"VP8X") + 12
        content[place : place + 6] = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    check(bytes(content), suffix)
