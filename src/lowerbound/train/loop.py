"""The training loop: steps, epochs, and how they end."""

import math
import time
from contextlib import closing, suppress
from itertools import islice, tee
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import TrainingFailed
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.recipe import Recipe
from ..data.ahead import ahead
from ..data.dataset import Data, Dataset
from .fit_prior import fit_prior
from .judging import out_of_patience, remember, validate
from .keeper import EPOCH_SECONDS, STEP_SECONDS, Keeper
from .learner import Learner
from .learning_rate import learning_rate
from .log import Listeners
from .plan import Kernels, Plan, Precision, choose
from .processes import ALONE, Processes, check_divisible
from .progress import Progress
from .rows import Rows
from .run import Run, RunFolder, Status, Stop
from .saving import SaveEvery
from .shardable import check_shardable
from .snapshots import Snapshots
from .starting import start_at_data, start_from_examples, take_weights
from .telling import Teller
from .watching import Watcher, Watching

GUARD_EVERY = 50  # steps between looks at a flag that lives on a GPU


class Loop:
    """One training.

    Args:
        recipe: what to train.
        data: on what.
        seed: of weights, order and noise.
        device: where this process computes.
        precision: of the networks.
        kernels: eager or compiled.
        init: a trained model whose weights to start from.
        processes: that train together.
        shard: divide the weights among them.
        save_every: how often the state is saved.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        seed: int,
        device: torch.device,
        precision: Precision = "auto",
        kernels: Kernels = "auto",
        init: VAE | None = None,
        processes: Processes = ALONE,
        *,
        shard: bool = False,
        save_every: SaveEvery | None = None,
    ) -> None:
        self.recipe, self.training, self.seed, self.device = recipe, recipe.training, seed, device
        self.processes, self.fine_tuned = processes, init is not None
        if processes.size > 1:
            check_divisible(recipe.objective, "among processes")
        if self.training.micro_batch is not None:
            check_divisible(recipe.objective, "into micro-batches")
        self.rows = Rows.of(recipe, data, device)
        model, objective = self._built(init)
        if processes.size > 1:
            if shard:
                check_shardable(objective, model, self.training, kernels)
            processes.same(model, objective)
        size = min(self.training.batch_size, len(self.rows.train))
        self.progress = Progress(math.ceil(len(self.rows.train) / self.training.batch_size))
        self.steps = self.training.epochs * self.progress.steps_per_epoch
        asked: tuple[Precision, Kernels] = precision, "eager" if shard else kernels
        plan: Plan = processes.from_first(lambda: choose(model, objective, self.rows.train, self.steps, size, asked))
        self.learner = Learner(recipe, seed, model, objective, plan, size, processes, device, shard=shard)
        self.keeper = Keeper(recipe, seed, self.learner, self.progress, save_every)
        self.signal: int | None = None  # that ends the training
        self.taken_up = False  # True for a run that was cut off, and is to end as it would have
        self._hear(Listeners([]), ())

    def _built(self, init: VAE | None) -> tuple[VAE, Objective]:
        """Return the model and the objective as they are before the first step."""
        model, objective = self.recipe.build(self.seed)
        train = self.rows.train
        self.rows.check(self.recipe, model)
        if init is None:
            start_at_data(model, train, self.seed)
            start_from_examples(model, train, self.seed)
        else:
            take_weights(model, init)
        start_from_examples(objective, train, self.seed)
        return model.to(self.device), objective.to(self.device)

    def _hear(self, log: Listeners, watchers: tuple[Watcher, ...]) -> None:
        """Let listeners hear what happens, and watchers see the model."""
        self.log = log
        self.tell = Teller(log, self.recipe, self.rows, self.learner, self.progress)
        path, snapshots = self.keeper.path, None
        if path is not None and self.rows.are_pictures and not self.learner.shard:
            snapshots = Snapshots(path / "snapshots", self.rows.shown)
        self.watching = Watching(watchers, snapshots, log.say)

    def run(self, stop: Stop, folder: RunFolder | None, log: Listeners, watchers: tuple[Watcher, ...] = ()) -> Run:
        """Train until the epochs are over, patience ends, a signal comes or a number is not finite."""
        self.keeper.folder = folder
        self._hear(log, watchers)
        try:
            self.keeper.begin(self.rows, log, fine_tuned=self.fine_tuned)
            self.tell.begin()
            self._divide()
            self._epochs(stop)
            status = "done" if self.signal is None else "stopped"
            self._finish(status)
        except TrainingFailed as error:
            self._finish("failed", error=str(error))
            error.run = self._run("failed", error.exit_code)
            if self.keeper.path is not None:
                log.say(f"the last good state is in {self.keeper.path}")
            raise
        except BaseException as error:
            with suppress(OSError):  # on a full disk the first error is the one to report
                self.tell.end("failed", error=repr(error))
                self.keeper.status("failed", error=repr(error))
            raise
        return self._run(status, 0 if self.signal is None else 128 + self.signal)

    def _run(self, status: Status, exit_code: int) -> Run:
        best, history = self.progress.best, self.progress.history
        model = self.learner.model.eval()
        return Run(model, self.recipe, self.keeper.path, history, status, exit_code, best.epoch, best.value)

    def _divide(self) -> None:
        """Leave this process its part of the weights and of the state, if they are to be divided."""
        if self.learner.shard:
            best = self.progress.best
            best.weights = self.learner.divide(self.rows.train.batch(slice(0, 2)), best.weights)
            self.keeper.writes = self.processes.from_first(lambda: self.keeper.folder is not None)

    def _epochs(self, stop: Stop) -> None:
        """Run the epochs; an early end leaves the loop through `break`."""
        progress, objective, valid = self.progress, self.learner.objective, self.rows.valid
        if not progress.step:
            self._show()
        if self.taken_up and not progress.skip and out_of_patience(progress, objective, self.training.patience):
            self.tell.patience()  # it was cut off between its last epoch and its end
            return
        while progress.epoch < self.training.epochs:
            progress.epoch += 1
            started = time.perf_counter()
            means = self._epoch(stop)
            self.learner.check(self.progress.epoch)
            progress.seconds += time.perf_counter() - started
            if self.signal is not None and progress.step < progress.epoch * progress.steps_per_epoch:
                break
            self.tell.epoch("train", means)
            self.tell.left_out()
            if len(valid):
                means = validate(self.learner, valid, self.seed, progress.step)
                self.tell.epoch("valid", means)
            remember(progress, objective, self.learner.kept, means, judged=len(valid) > 0)
            self._show()
            due = self._agreed(stop, due=self.keeper.due(EPOCH_SECONDS))
            if self.signal is not None:
                break
            if out_of_patience(progress, objective, self.training.patience):
                self.tell.patience()
                break
            if due:
                self.keeper.save(self.log)

    def _show(self) -> None:
        """Show the model to all who look at it; if one of them fails, what was learned is saved first."""
        try:
            self.watching(self.learner.kept, self.progress.epoch)
        except Exception:
            with suppress(OSError):
                self.keeper.save_alone(self.log)  # only the first process looks, so only it can fail here
            raise

    def _epoch(self, stop: Stop) -> dict[str, float]:
        """Take one epoch's steps and return the mean of each term over its examples."""
        progress = self.progress
        self.learner.model.train()
        skip = progress.begin_epoch()
        batches = self.rows.train.batches(self.seed, progress.epoch, self.training.batch_size)
        parts, counts = tee((*self.processes.part(index), len(index)) for index in islice(batches, skip, None))
        with closing(ahead(self.rows.train, (mine for mine, *_ in parts))) as ready:
            for i, ((rows, index), (_, *count)) in enumerate(zip(ready, counts, strict=True), skip):
                outcome, weight = self._step(rows, index, *count)
                if progress.step == 1:
                    self.tell.scales(outcome)
                progress.totals.add(outcome.terms, weight)
                self._look(stop, i + 1)
                if self.signal is not None:
                    break
        return progress.totals.of_all(self.processes).means()

    def _step(self, rows: Dataset, index: Tensor | slice, counting: int, total: int) -> tuple[Outcome, Tensor | None]:
        """Take this process's part in a step, and tell what changed by it."""
        learner, progress = self.learner, self.progress
        pieces, kernels = learner.pieces.rows, learner.plan.kernels
        lr = learning_rate(self.training, progress.step, self.steps)
        made = learner.step(rows, index, counting, total, progress.step, lr)
        if learner.pieces.rows != pieces:
            self.tell.cut_finer()
        if learner.plan.kernels != kernels:
            self.tell.fell_back()
            self.keeper.machine_changed()
        progress.step += 1
        return made

    def _look(self, stop: Stop, done: int) -> None:
        """After a step, `done` of which are done in this epoch: show progress, look at the guard, save where due."""
        self.tell.tick(done)
        looks = self.device.type == "cpu" or self.progress.step % GUARD_EVERY == 0
        last = done == self.progress.steps_per_epoch
        if looks:
            self.learner.check(self.progress.epoch)
        if not (looks or last or self.processes.size == 1):
            return
        if self._agreed(stop, due=not last and self.keeper.due(STEP_SECONDS)):
            self.learner.check(self.progress.epoch)
            self.keeper.save(self.log)

    def _agreed(self, stop: Stop, *, due: bool) -> bool:
        """Tell whether a checkpoint is due, as the first process sees it; a signal to one process is one to all."""
        signal, saves = self.processes.agree(stop.signal or 0, int(due and self.processes.first))
        self.signal = signal or None
        return bool(saves) and not signal

    def _after(self) -> None:
        """Fit the priors that the recipe wants once its model is trained, and save the model with them."""
        learner, rows = self.learner, Data(self.rows.plain, self.rows.valid, self.rows.valid)
        for phase in self.recipe.after:
            plan = {name: getattr(phase, name) for name in ("epochs", "batch_size", "lr", "group")}
            learner.model = fit_prior(learner.model, phase.priors, rows, seed=self.seed, say=self.log.say, **plan)
        if self.recipe.after:
            self.keeper.save_model(learner.model)

    def _finish(self, status: Literal["done", "stopped", "failed"], **more: str) -> None:
        self.keeper.save(self.log)
        self.learner.put_together(self.progress.best.weights)
        if status == "done":
            self._after()
        self.tell.end(status, seconds=self.progress.seconds, **more)
        self.keeper.status(status, **more)
