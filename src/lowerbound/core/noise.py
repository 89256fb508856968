"""Noise as a function of integers: the same keys give the same draws, whatever happened before."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """The first key of every use of noise, so that no two uses share their draws."""

    WEIGHTS = 1
    ORDER = 2
    TRAINING = 3
    VALIDATION = 4
    SPLITS = 5
    BINARISATION = 6
    EVALUATION = 7
    SHOWN = 8
    PRIOR = 9


def mix(*keys: int) -> int:
    """Return a 63-bit seed that depends on every key (the mixer of splitmix64, Steele et al. 2014).

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def reseed(*keys: int) -> None:
    """Set torch's default generators (CPU and GPU) from `keys`; a training step calls this first."""
    # torch.manual_seed does this too, but spends 0.1 ms or more on GPUs that are not in use
    seed = mix(*keys)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def states() -> list[Tensor]:
    """Return where torch's default generators (the CPU's, and that of a GPU in use) are."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def go_back(to: list[Tensor]) -> None:
    """Set torch's default generators to where they were."""
    torch.set_rng_state(to[0])
    if len(to) > 1:
        torch.cuda.set_rng_state(to[1])


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave torch's default generators (the CPU's, and that of a GPU in use) as they were before."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        yield


@contextmanager
def seeded(*keys: int | None) -> Iterator[None]:
    """Draw from a generator set by `keys` inside, and leave the default generators as they were.

    A key `None` means: no reseeding, draw from the default generator.
    """
    if any(key is None for key in keys):
        yield
        return
    with kept_generators():
        reseed(*(key for key in keys if key is not None))
        yield


def generator(*keys: int) -> torch.Generator:
    """Return a CPU generator of its own, set by `keys`."""
    return torch.Generator().manual_seed(mix(*keys))
