"""Data sets that come with the package or are made by a formula."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import CorruptArtifact
from ..core.noise import mix
from .arrays import from_arrays
from .dataset import Data
from .idx import read_idx
from .sprites import sprites

_MNIST = Path(__file__).parent / "mnist"
_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}
_TOY_ROWS = 10_000


def _checked(name: str) -> np.ndarray:
    path = _MNIST / name
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    if found != _MNIST_SHA256[name]:
        raise CorruptArtifact(
            f"{name} is not the canonical file",
            where=str(path),
            expected=f"SHA-256 {_MNIST_SHA256[name]}",
            fix="install lowerbound again",
        )
    return read_idx(path)


def mnist(**options: Any) -> Data:
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 grey; 5,000 training images held out for validation."""
    train, train_y = _checked("train-images-idx3-ubyte.gz"), _checked("train-labels-idx1-ubyte.gz")
    test, test_y = _checked("t10k-images-idx3-ubyte.gz"), _checked("t10k-labels-idx1-ubyte.gz")
    options.setdefault("valid_fraction", 5000 / 60000)
    return from_arrays(train, train_y, name="mnist", test=(test, test_y), **options)


def digits(**options: Any) -> Data:
    """scikit-learn's digits: 1,797 handwritten digits, 8 x 8 with 17 grey levels."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return from_arrays(np.asarray(bunch.images, np.uint8), bunch.target, name="digits", scale=16, **options)


def ring(**options: Any) -> Data:
    """Points near a circle: z/10 + z/|z| with z ~ N(0, I) (Doersch 2016, arXiv 1606.05908, fig. 2)."""
    z = np.random.default_rng(mix(options.get("seed", 0))).standard_normal((_TOY_ROWS, 2))
    x = z / 10 + z / np.linalg.norm(z, axis=1, keepdims=True)
    return from_arrays(x.astype(np.float32), name="ring", kind="points", **options)


def moons(**options: Any) -> Data:
    """Two interleaved half circles with noise 0.05 (scikit-learn), labelled."""
    from sklearn.datasets import make_moons

    x, y = make_moons(_TOY_ROWS, noise=0.05, random_state=mix(options.get("seed", 0)) % 2**32)
    return from_arrays(np.asarray(x, np.float32), y, name="moons", kind="points", **options)


def eight_gaussians(**options: Any) -> Data:
    """Eight normals of standard deviation 0.2 on a circle of radius 2, labelled."""
    rng = np.random.default_rng(mix(options.get("seed", 0)))
    y = rng.integers(0, 8, _TOY_ROWS)
    centres = 2 * np.stack([np.cos(np.pi * y / 4), np.sin(np.pi * y / 4)], 1)
    x = centres + 0.2 * rng.standard_normal((_TOY_ROWS, 2))
    return from_arrays(x.astype(np.float32), y, name="8gaussians", kind="points", **options)


BUILTIN: dict[str, Callable[..., Data]] = {
    "mnist": mnist,
    "digits": digits,
    "ring": ring,
    "moons": moons,
    "8gaussians": eight_gaussians,
    "sprites": sprites,
}
