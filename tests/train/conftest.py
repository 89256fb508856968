"""What the tests of training share."""

import importlib
import itertools
from types import SimpleNamespace

import pytest
import torch
import training_parts

torch.set_num_threads(1)  # many small steps: a second thread costs more than it gives, above all on a busy machine


@pytest.fixture(autouse=True)
def nothing_seen():
    """Start each test with nothing left over from another."""
    training_parts.SEEN.clear()


@pytest.fixture
def every_tick(monkeypatch):
    """Let listeners hear every step, not four a second, by a clock that runs fast."""
    clock = itertools.count()
    monkeypatch.setattr(
        importlib.import_module("lowerbound.train.log"), "time", SimpleNamespace(monotonic=lambda: float(next(clock)))
    )


@pytest.fixture
def updates(monkeypatch):
    """Return a list that gets the learning rates and the row count of every update."""
    module = importlib.import_module("lowerbound.train.loop")
    update, seen = module.update, []

    def noted(objective, model, optimizers, batch, *args):
        rates = [group["lr"] for optimizer in optimizers.values() for group in optimizer.param_groups]
        seen.append(SimpleNamespace(rates=rates, rows=len(batch.x)))
        return update(objective, model, optimizers, batch, *args)

    monkeypatch.setattr(module, "update", noted)
    return seen
