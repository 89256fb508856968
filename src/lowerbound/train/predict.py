"""What a training will need, before it starts: parameters, steps and memory."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..core.noise import Stream, seeded
from ..core.objective import first_step
from ..core.recipe import Recipe
from ..data.dataset import Data, bytes_of
from ..data.stored import Stored

_MOMENTS = {"adam": 2, "adamw": 2, "adamax": 2, "sgd": 0}
_PROBE = 2  # examples; a second pass with twice as many tells what each one adds


@dataclass(frozen=True)
class Prediction:
    """What a training will need; memory in bytes, without what Python and torch take themselves.

    Args:
        parameters: numbers that are learned.
        steps_per_epoch: optimiser steps in one epoch.
        steps: in all epochs.
        model_bytes: weights, gradients, the optimiser's moments (critics included), a copy of the best weights,
            and the moving average if there is one.
        data_bytes: the rows of all splits.
        batch_bytes: what one step, or a piece of it by `micro_batch`, keeps for its backward pass.
    """

    parameters: int
    steps_per_epoch: int
    steps: int
    model_bytes: int
    data_bytes: int
    batch_bytes: int

    @property
    def memory(self) -> int:
        """All of it, in bytes."""
        return self.model_bytes + self.data_bytes + self.batch_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the fields and their sum."""
        return {**asdict(self), "memory": self.memory}


def predict(recipe: Recipe, data: Data) -> Prediction:
    """Return what training `recipe` on `data` will need; the memory of a step is measured on a few examples."""
    training = recipe.training
    model, objective = recipe.build()
    learned = {id(p): p for players in objective.players(model).values() for p in players}  # critics are players, too
    weights = sum(p.numel() * p.element_size() for p in learned.values())
    average = 0 if training.ema is None else 1
    kept = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    rows = sum(
        bytes_of(t)
        for split in (data.train, data.valid, data.test)
        for t in (split.x, split.y, split.seen, split.mask, split.weight)
        if t is not None and not isinstance(t, Stored)
    )
    batch = min(training.batch_size, len(data.train), training.micro_batch or training.batch_size)
    one, two = (_saved_bytes(recipe, data, count) for count in (_PROBE, 2 * _PROBE))
    steps = math.ceil(len(data.train) / training.batch_size)
    return Prediction(
        parameters=sum(p.numel() for p in model.parameters()),
        steps_per_epoch=steps,
        steps=steps * training.epochs,
        model_bytes=weights * (2 + _MOMENTS[training.optimizer]) + (1 + average) * kept,
        data_bytes=rows,
        batch_bytes=max(0, one + (two - one) * (batch - _PROBE) // _PROBE),
    )


def _saved_bytes(recipe: Recipe, data: Data, count: int) -> int:
    """Return the bytes that the backward pass of a step on `count` examples needs, the weights left out."""
    model, objective = recipe.build()
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers(), *objective.parameters()]}
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = data.train.matching(recipe.spec, resample=True)
    batch = rows.batch(torch.arange(count) % len(rows))
    try:
        with seeded(Stream.TRAINING, 0), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            outcome = objective(model, batch, first_step())
    except RuntimeError as error:  # torch.func, of objectives and priors that take derivatives themselves
        if "saved tensor hooks" not in str(error):
            raise
        held.clear()
        with seeded(Stream.TRAINING, 0):
            outcome = objective(model, batch, first_step())
        for tensor in _saved_in_graph(list(outcome.losses.values())):
            pack(tensor)
    assert outcome.losses, "an objective has a loss"
    return sum(held.values())


def _saved_in_graph(losses: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield what the nodes behind these losses keep for their backward pass."""
    waiting: list[Any] = [loss.grad_fn for loss in losses]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        flat = [tensor for value in saved for tensor in (value if isinstance(value, tuple | list) else (value,))]
        yield from (tensor for tensor in flat if isinstance(tensor, torch.Tensor))
