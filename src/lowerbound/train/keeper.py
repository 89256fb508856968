"""What is saved of a training, when, and how it is found again."""

import copy
import time
from pathlib import Path
from typing import Any

from ..core.errors import OutOfResource
from ..core.model import VAE
from ..core.recipe import Recipe
from ..ship.save import save
from .checkpoint import State, load_checkpoint, save_checkpoint
from .learner import Learner
from .log import Listeners
from .progress import Progress
from .rows import Rows
from .run import RunFolder, Status, environment
from .saving import Passed, SaveEvery

EPOCH_SECONDS, STEP_SECONDS = 30.0, 300.0  # least time between checkpoints, after an epoch and inside one


class Keeper:
    """Saves a training in its run folder.

    Args:
        recipe: what is trained.
        seed: of the training.
        learner: the model in training.
        progress: how far it has come.
        every: how often; None: after an epoch, if half a minute has passed, and every five minutes in a long one.
    """

    def __init__(
        self, recipe: Recipe, seed: int, learner: Learner, progress: Progress, every: SaveEvery | None
    ) -> None:
        self.recipe, self.seed, self.learner, self.progress, self.every = recipe, seed, learner, progress, every
        self.folder: RunFolder | None = None  # in the first process, if anything is written
        self.writes = True  # False if no process writes files
        self.saved_at = Passed(0, 0, time.monotonic())

    @property
    def path(self) -> Path | None:
        """The run folder."""
        return None if self.folder is None else self.folder.path

    def begin(self, rows: Rows, log: Listeners, *, fine_tuned: bool) -> None:
        """Write what is known before the first step; from then on, the run says `running` and can be taken up.

        Where that cannot be written no folder is left, so that the same command can be given again.

        Args:
            rows: the data.
            log: who hears of a checkpoint.
            fine_tuned: True if the weights were given, and could not be made anew.
        """
        if self.folder is None:
            return
        if self.progress.again:
            self.folder.describe_again(self.recipe)
            self.status("running")
            return
        try:
            self.folder.describe(self.recipe, rows.train.spec, rows.about, self._machine())
            if fine_tuned:
                self.save_alone(log)
            self.status("running")
        except (OSError, OutOfResource):
            self.folder.discard()
            raise

    def machine_changed(self) -> None:
        """Write anew what the training computes by."""
        if self.folder is not None:
            self.folder.environment(self._machine())

    def _machine(self) -> dict[str, Any]:
        """Return what env.json says."""
        processes = self.learner.processes
        how = {**self.learner.plan.to_json(), "processes": processes.size, "sharded": self.learner.shard}
        return {**environment(self.seed, self.learner.device), **how}

    def status(self, status: Status, **more: Any) -> None:
        """Write how the run is, if anything is written."""
        if self.folder is not None:
            self.folder.status(status, epoch=self.progress.epoch, step=self.progress.step, **more)

    def due(self, seconds: float) -> bool:
        """Tell whether it is time for a checkpoint: as asked for, or so long after the last one."""
        now = self.progress.passed()
        if self.every is not None:
            return self.every.due(self.saved_at, now)
        return now.seconds - self.saved_at.seconds > seconds

    def save(self, log: Listeners) -> None:
        """Save the state of training, and the best weights so far as the model; all processes must call this."""
        self.learner.cut_alike()
        self.save_alone(log)

    def save_alone(self, log: Listeners) -> None:
        """Save without asking the other processes, none of which may be where this one is: between epochs only."""
        learner, progress = self.learner, self.progress
        totals = progress.totals.of_all(learner.processes) if progress.inside else progress.totals
        self.saved_at = progress.passed()
        if not self.writes:
            return
        model, objective, optimizers, best = learner.whole(progress.best.weights)
        if self.folder is None:
            return
        numbers = progress.to_json(totals, self.seed)
        numbers |= {"left_out": int(learner.guard.left_out), "micro_batch": learner.pieces.rows}
        state = State(model, objective, optimizers, numbers, learner.average, best)
        kept = copy.deepcopy(model if learner.average is None else learner.kept)
        if best:  # without a whole epoch there are only the current weights
            kept.load_state_dict(best)
        self.save_model(kept)
        path = save_checkpoint(self.folder.path / "checkpoints", state)
        self.status("running")
        log.event("checkpoint", epoch=progress.epoch, step=progress.step, path=path.name)
        self.saved_at = progress.passed()  # counted from when it is written

    def save_model(self, model: VAE) -> None:
        """Write a model into the run folder, in place of the one there."""
        if self.folder is not None:
            save(model, self.folder.path / "model", recipe=self.recipe.name, options=self.recipe.options)

    def restore(self, path: Path) -> None:
        """Go back to the checkpoint at `path`.

        Raises:
            CorruptArtifact: if it is damaged or belongs to another model.
        """
        learner, progress = self.learner, self.progress
        state = State(learner.model, learner.objective, learner.optimizers, {}, learner.average)
        load_checkpoint(path, state)
        done = state.progress
        best = {name: t.to(learner.model.device) for name, t in state.best.items()}
        learner.cut_into(done.get("micro_batch"))  # older checkpoints have none
        if progress.go_back(done, best, learner.device, first=learner.processes.first):
            learner.guard.left_out.fill_(int(done["left_out"]))
