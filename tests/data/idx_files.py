"""Writes IDX files for the tests, right ones and wrong ones, by the format's own definition."""

import gzip
import struct

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def header(code, shape):
    """Return an IDX header: two zero bytes, a type, the number of axes, their sizes."""
    return struct.pack(f">2xBB{len(shape)}I", code, len(shape), *shape)


def pack(array):
    """Return `array` as the bytes of an IDX file, big-endian as the format wants."""
    kind = array.dtype.str[1:]
    return header(CODES[kind], array.shape) + array.astype(f">{kind}").tobytes()


def write(path, content):
    """Write bytes or an array to `path`, gzipped if it ends in .gz."""
    content = pack(content) if isinstance(content, np.ndarray) else content
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def images(rows, height=5, width=4, seed=0):
    """Return grey images `[rows, height, width]`."""
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width), dtype=np.uint8)
