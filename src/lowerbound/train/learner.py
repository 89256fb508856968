"""What learns: a model and its objective with all that moves them; as a whole, or a part of it in each process."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..core.errors import TrainingFailed
from ..core.model import VAE
from ..core.noise import Stream, reseed
from ..core.objective import Objective, Outcome
from ..core.recipe import Recipe
from ..core.types import Batch
from ..data.dataset import Dataset
from .plan import Pass, Plan, has_products, low_precision, small_as_zero
from .processes import Processes
from .update import Cast, Guard, Pieces, make_optimizers, set_lr, update

if TYPE_CHECKING:
    from .sharding import Sharded

_WHOLE = 1 << 40  # rows: of a piece that is a whole batch
Whole: TypeAlias = tuple[VAE, Objective, Mapping[str, Optimizer], dict[str, Tensor]]
"""Model, objective, optimisers and best weights, none of them divided."""


def moving_average(model: VAE, decay: float | None) -> AveragedModel | None:
    """Return the exponential moving average of a model's weights (buffers are the model's own), or None.

    The decay of step n is at most (1 + n) / (10 + n), so that the initial weights are soon forgotten.
    """
    if decay is None:
        return None

    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average)


class Learner:
    """A model in training.

    Args:
        recipe: that says how.
        seed: of weights and noise.
        model: on its device.
        objective: there too.
        plan: how it computes.
        rows: of a usual batch.
        processes: that train it together.
        device: where this process computes.
        shard: True if weights will be divided among the processes; until then they wait where there is more memory.
    """

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        model: VAE,
        objective: Objective,
        plan: Plan,
        rows: int,
        processes: Processes,
        device: torch.device,
        *,
        shard: bool = False,
    ) -> None:
        self.recipe, self.seed, self.processes, self.device, self.shard = recipe, seed, processes, device, shard
        self.model, self.objective, self.plan, self.rows = model, objective, plan, rows
        self.sharded: "Sharded | None" = None  # from the first step on, if weights are divided
        training = recipe.training
        self.pieces = Pieces(training.micro_batch, divides=not objective.couples_batch)
        self.average = moving_average(model, training.ema)
        self.cast = Cast.of(objective, model)
        self.optimizers: Mapping[str, Optimizer] = make_optimizers(self.cast.players, training)
        self.guard = Guard(device)
        half = partial(low_precision, device, products=has_products(model, objective))
        self.precision = half if plan.precision == "bf16" else nullcontext
        self.compute = Pass(plan.kernels, self._rows_of_a_pass(), self.cast.stateful)
        if shard:
            model.cpu()
            objective.cpu()

    @property
    def kept(self) -> VAE:
        """The model that is validated and kept: the moving average if there is one."""
        return self.model if self.average is None else self.average.module  # pyright: ignore[reportReturnType]

    def outcome(self, batch: Batch, step: Tensor) -> Outcome:
        """Return what the objective makes of a batch with the kept model."""
        if self.sharded is not None:
            return self.sharded(batch, step)
        return self.objective(self.kept, batch, step)

    def step(
        self, rows: Dataset, index: Tensor | slice, counting: int, total: int, number: int, lr: float
    ) -> tuple[Outcome, Tensor | None]:
        """Take this process's part in a step; returns the outcome, and the weights of the rows it is of.

        Args:
            rows: the data, or rows that were read ahead.
            index: this process's rows.
            counting: of them that count.
            total: rows of all processes.
            number: of the step.
            lr: its learning rate.
        """
        reseed(Stream.TRAINING, self.seed, number, *self.processes.keys())
        set_lr(self.optimizers, lr)
        step = torch.tensor(float(number), device=self.device)
        batch = rows.batch(index)
        with small_as_zero():
            outcome = self._moved(batch, step, counting, total)
        if self.plan.kernels != self.compute.kernels:  # it could not be compiled
            self.plan = replace(self.plan, kernels=self.compute.kernels)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return outcome, batch.weight if counting else torch.zeros(len(batch.x), device=self.device)

    def _moved(self, batch: Batch, step: Tensor, counting: int, total: int) -> Outcome:
        training, before = self.recipe.training, self.pieces.rows
        how = training.clip, self.precision, training.skip_above
        if self.sharded is not None:
            return self.sharded.update(batch, step, self.guard, (counting, total), before, *how)
        given = self.objective, self.model, self.optimizers, batch, step, self.guard, *how
        outcome = update(*given, self.compute, self.cast, self.pieces, self.processes, counting)
        if self.pieces.rows != before:
            self.cut_into(self.pieces.rows)
        return outcome

    def check(self, epoch: int) -> None:
        """Raise TrainingFailed if a number was not finite in some step; waits for the device."""
        failure = self.guard.failed()
        if failure is not None:
            names, step = failure
            verb = "were" if " and " in names else "was"
            raise TrainingFailed(
                f"{names} {verb} not finite at step {step}; training stopped before that step changed a weight",
                where=f"epoch {epoch}",
                fix="lower --lr, set --clip 1.0, or raise the floor of a learned variance",
            )

    def cut_into(self, rows: int | None) -> None:
        """Pass batches in pieces of so many rows from now on; None passes them whole."""
        self.pieces.rows = rows
        self.compute.rows = self._rows_of_a_pass()

    def cut_alike(self) -> None:
        """Pass batches in the smallest pieces of any process, so that one number tells how all go on."""
        finest = -self.processes.agree(-(self.pieces.rows or _WHOLE))[0]
        if finest < _WHOLE:
            self.cut_into(finest)

    def _rows_of_a_pass(self) -> int:
        """Return the usual number of rows of a pass through the model in this process."""
        mine = len(self.processes.part(torch.arange(self.rows))[0])
        return mine if self.pieces.rows is None else min(mine, self.pieces.rows)

    def divide(self, probe: Batch, best: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave this process its part of the weights and of the optimisers' state; returns that of the best weights.

        Args:
            probe: two examples, the same in all processes.
            best: the best weights so far, by name.

        Raises:
            Incompatible: if a part reads weights that are not there.
        """
        from .sharding import Sharded

        self.sharded = Sharded(self.objective, self.model, self.optimizers, probe, self.processes)
        self.cast = self.sharded.cast  # the former one holds the whole weights
        return self.sharded.divided(best)

    def whole(self, best: dict[str, Tensor]) -> Whole:
        """Return all as a whole, in the first process if it is divided; all must call this then."""
        here = self.model, self.objective, self.optimizers
        if self.sharded is None:
            return *here, best
        best = self.sharded.whole(best)
        model, objective, optimizers = self.sharded.gathered(self._build, self.recipe.training) or here
        return model, objective, optimizers, best

    def put_together(self, best: dict[str, Tensor]) -> None:
        """Make the model with the best weights, or the current ones if there are none, in every process."""
        if self.sharded is not None:
            weights = self.sharded.whole(best or self.model.state_dict(), everywhere=True)
            self.sharded, self.optimizers = None, {}
            self.model, self.objective = self._build()
            self.model.load_state_dict(weights)
            self.model.to(self.device)
        elif best:
            self.model.load_state_dict(best)

    def _build(self) -> tuple[VAE, Objective]:
        return self.recipe.build(self.seed)
