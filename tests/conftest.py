"""Run the suite with shapes checked: every jaxtyping annotation of the package is executed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' tensors are small: more threads only wait for each other

from jaxtyping import install_import_hook

install_import_hook("lowerbound", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def fixed_seed():
    """Start each test from the same generator state, whatever ran before."""
    torch.manual_seed(0)
