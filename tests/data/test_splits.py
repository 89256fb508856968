"""Splits: disjoint, complete, and a function of the seed alone."""

import numpy as np
import pytest
import torch

from lowerbound import from_arrays, load_data
from lowerbound.core.errors import UsageError

ROWS = 101


def numbered(**options):
    """Return data whose rows are their own numbers."""
    x = np.repeat(np.arange(ROWS)[:, None], 3, axis=1) + 0.5
    return from_arrays(x, np.arange(ROWS) % 4, **options)


def rows(data):
    return [part.x[:, 0].int().tolist() for part in (data.train, data.valid, data.test)]


@pytest.mark.parametrize(("valid", "test"), [(0.1, 0.1), (0.0, 0.3), (0.5, 0.0), (0.0, 0.0), (0.25, 0.35)])
def test_splits_are_disjoint_and_cover_everything(valid, test):
    data = numbered(valid_fraction=valid, test_fraction=test)
    parts = rows(data)
    assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(ROWS))
    assert all(part == sorted(part) for part in parts)  # in the order they came in
    assert len(parts[2]) == int(ROWS * test)
    assert len(parts[1]) == int((ROWS - len(parts[2])) * valid)
    assert data.spec.size == len(parts[0])
    for part, numbers in zip((data.train, data.valid, data.test), parts, strict=True):
        assert part.y.tolist() == [number % 4 for number in numbers]


def test_the_seed_alone_decides_the_splits():
    before = torch.get_rng_state()
    first = rows(numbered(seed=3))
    torch.manual_seed(17)
    np.random.seed(17)
    assert rows(numbered(seed=3)) == first
    assert rows(numbered(seed=4)) != first
    assert rows(numbered(seed=0)) == rows(numbered())
    torch.set_rng_state(before)
    numbered(seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_given_test_split_is_kept_as_it_is():
    test = np.arange(21).reshape(7, 3) + 0.25
    data = from_arrays(np.random.default_rng(0).random((ROWS, 3)), test=(test, None), valid_fraction=0.2)
    assert data.test.x.tolist() == test.tolist()
    assert len(data.train) + len(data.valid) == ROWS


def test_a_split_is_found_by_name():
    data = numbered()
    assert data.split("valid") is data.valid
    assert [data.split(name).split for name in ("train", "valid", "test")] == ["train", "valid", "test"]


def test_blocks_cover_a_split_in_order_and_the_last_may_be_short():
    data = numbered(test_fraction=0.0, valid_fraction=0.0).train
    blocks = list(data.blocks(17))
    assert [len(block.x) for block in blocks] == [17] * 5 + [16]
    assert torch.equal(torch.cat([block.x for block in blocks]), data.x)
    assert torch.equal(torch.cat([block.y for block in blocks]).argmax(1), data.y)
    assert torch.equal(data.take(5).x, data.x[:5])
    assert len(data.take(5)) == 5


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_the_data_seed_of_a_built_in_set_moves_its_splits(name):
    first, again, other = (load_data(name, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.test.x, other.test.x)
    assert first.spec.data_seed == 1


@pytest.mark.parametrize("seed", [-1, 2**33, 2**70])
@pytest.mark.parametrize("name", ["digits", "ring", "moons", "8gaussians", "sprites"])
def test_a_seed_works_for_every_set_or_is_refused(name, seed):
    try:
        assert load_data(name, seed=seed).spec.data_seed == seed
    except UsageError as error:
        assert str(seed) in str(error)
