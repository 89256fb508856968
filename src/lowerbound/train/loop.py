"""The training loop: epochs, validation, the best weights, checkpoints."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..core.errors import Incompatible, LowerboundError, OutOfResource, TrainingFailed, UsageError
from ..core.model import VAE, Group, Starting, inference
from ..core.noise import Stream, kept_generators, reseed, seeded
from ..core.objective import Objective, Outcome
from ..core.recipe import Recipe
from ..core.rules import check_values
from ..core.types import Batch
from ..data.ahead import ahead
from ..data.augment import Augment
from ..data.checks import fingerprint
from ..data.dataset import Data, Dataset
from ..ship.save import save
from .checkpoint import State, load_checkpoint, save_checkpoint
from .fit_prior import fit_prior
from .log import Listeners
from .plan import Kernels, Pass, Plan, Precision, choose, low_precision, small_as_zero
from .processes import ALONE, Processes, check_divisible
from .run import Run, RunFolder, Status, Stop, environment
from .saving import Passed, SaveEvery
from .shardable import check_shardable
from .snapshots import Snapshots
from .update import Cast, Guard, Pieces, make_optimizers, set_lr, update

if TYPE_CHECKING:
    from .sharding import Sharded

Watcher: TypeAlias = Callable[[VAE, int], None]
"""Is shown the model, in evaluation mode, and the number of epochs done."""

EVAL_ROWS = 1000
GUARD_EVERY = 50  # steps between looks at a flag that lives on a GPU
EPOCH_SECONDS, STEP_SECONDS = 30.0, 300.0  # least time between checkpoints, after an epoch and inside one
SHOWN_ROWS = 100


@dataclass
class Best:
    """The best weights so far, by the monitor."""

    value: float = math.nan
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def improves(self, value: float, *, maximize: bool) -> bool:
        if math.isnan(self.value):
            return True
        return value > self.value if maximize else value < self.value


def _add(sums: dict[str, Tensor], terms: Mapping[str, Tensor], weight: Tensor | None) -> Tensor | int:
    """Add the weighted sum of each term to `sums` and return the sum of the weights."""
    for name, term in terms.items():
        values = term.detach().double()
        added = (values if weight is None else weight * values).sum()
        sums[name] = sums[name] + added if name in sums else added
    return next(iter(terms.values())).shape[0] if weight is None else weight.double().sum()


def _wide(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)


def take_weights(model: VAE, init: VAE) -> None:
    """Copy the weights of a trained model into a new one of the same shapes.

    Raises:
        Incompatible: if a weight is missing or has another shape; the message lists them.
    """
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in init.state_dict().items()}
    rows = [
        f"{name}: {found.get(name, 'missing')} in the trained model, {wanted.get(name, 'none')} in the new one"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if rows:
        listing = "\n    ".join(rows[:20])
        raise Incompatible(
            f"the trained weights do not fit the new model\n    {listing}",
            fix="use the recipe and options of the trained run (lowerbound export-config RUN)",
        )
    model.load_state_dict(init.state_dict())


def moving_average(model: VAE, decay: float | None) -> AveragedModel | None:
    """Return the exponential moving average of a model's weights (buffers are the model's own), or None.

    The decay of step n is at most (1 + n) / (10 + n), so that the initial weights are soon forgotten.
    """
    if decay is None:
        return None

    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average)


class Loop:
    """One training; what `fit` needs between two steps."""

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
    ) -> None:
        self.recipe, self.training, self.seed, self.device = recipe, recipe.training, seed, device
        self.processes, self.shard = processes, shard
        self.sharded: "Sharded | None" = None  # from the first step on, if weights are divided
        self.writes = True  # False if no process writes files
        self.about_data = {
            "origin": data.origin,
            "fingerprint": fingerprint(data),
            "notes": list(data.notes),
            "warnings": list(data.warnings),
        }
        self.folder: RunFolder | None = None
        self.log = Listeners([])
        self.watchers: tuple[Watcher, ...] = ()
        self.snapshots: Snapshots | None = None
        self.found = (*data.notes, *(f"warning: {line}" for line in data.warnings))
        self.train = data.train.matching(recipe.spec, resample=True).to(device)
        if self.training.augment:
            self.train = self._augmenting(self.train)
        self.valid = data.valid.matching(recipe.spec).at_hand().to(device)
        model, objective = recipe.build(seed)
        if self.train.spec.binarize != recipe.spec.binarize:
            raise UsageError(
                f"the recipe was made for pixels with binarisation {recipe.spec.binarize!r}, the data say "
                f"{self.train.spec.binarize!r}",
                fix="make the recipe from data.spec",
            )
        first = data.train.take(min(SHOWN_ROWS, len(data.train)))
        self.shown = self.valid if len(self.valid) else first.matching(recipe.spec).to(device)
        for rows in (self.train, self.valid):
            check_values(model.decoder.family, rows.support, rows.spec.name)
        if init is None:
            self._start_at_data(model)
            self._start_from_examples(model)
        else:
            take_weights(model, init)
        self._start_from_examples(objective)
        self.model: VAE = model.to(device)
        self.objective: Objective = objective.to(device)
        if processes.size > 1:
            check_divisible(self.objective, "among processes")
            if shard:
                check_shardable(self.objective, self.model, self.training, kernels)
            processes.same(self.model, self.objective)
        self.pieces = Pieces(self.training.micro_batch, divides=not self.objective.couples_batch)
        if self.training.micro_batch is not None:
            check_divisible(self.objective, "into micro-batches")
        self.average = moving_average(self.model, self.training.ema)
        self.cast = Cast.of(self.objective, self.model)
        self.optimizers = make_optimizers(self.cast.players, self.training)
        self.guard = Guard(device)
        self.steps_per_epoch = math.ceil(len(self.train) / self.training.batch_size)
        steps, rows = self.training.epochs * self.steps_per_epoch, min(self.training.batch_size, len(self.train))
        asked: tuple[Precision, Kernels] = precision, "eager" if shard else kernels
        self.plan: Plan = processes.from_first(
            lambda: choose(self.model, self.objective, self.train, steps, rows, asked)
        )
        self.compute = Pass(self.plan.kernels, self._rows_of_a_pass())
        if shard:  # until it is divided, a whole state waits where there is more memory
            self.model.cpu()
            self.objective.cpu()
        self.step, self.epoch, self.seconds = 0, 0, 0.0
        self.skip = 0  # steps of the next epoch that were taken before a restart
        self.sums: dict[str, Tensor] = {}  # of the terms of the epoch so far
        self.total: Tensor | float = 0
        self.best, self.history = Best(), []
        self.again = False  # True for a run that goes on
        self.signal: int | None = None  # that ends the training
        self.fine_tuned = init is not None
        self.save_every: SaveEvery | None = None
        self._saved_at = Passed(0, 0, time.monotonic())

    def _start_at_data(self, model: VAE) -> None:
        """Start the decoder's output at the mean and variance of the observed training data."""
        sums: list[Tensor] = []
        # grey values: their mean is the mean of all binarisations
        raw = replace(self.train, resample=False, augment=None)
        for batch in raw.start_rows(self.seed):
            mask = torch.ones_like(batch.x) if batch.mask is None else batch.mask
            values, known = (t.double() for t in model.decoder.family.observations(batch.x, mask))
            parts = [known.sum(0), (known * values).sum(0), (known * values.square()).sum(0)]
            sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
        count = sums[0].clamp_min(1)
        mean = sums[1] / count
        variance = (sums[2] / count - mean.square()).clamp_min(0)
        model.decoder.start_at(mean.float().cpu(), variance.float().cpu())

    def _start_from_examples(self, root: nn.Module) -> None:
        """Give the parts that start from training examples as many as they want."""
        rows = replace(self.train, augment=None)
        for i, module in enumerate(m for m in root.modules() if isinstance(m, Starting)):
            some = rows.some(module.wants, self.seed, i + 1)
            with seeded(Stream.WEIGHTS, self.seed, i + 1), torch.no_grad():
                module.start_from(rows.batch(some.to(self.device)).to(torch.device("cpu")))

    def _augmenting(self, rows: Dataset) -> Dataset:
        if rows.spec.kind != "image":
            raise UsageError(f"{rows.spec.name} cannot be augmented", expected="images", fix="drop --augment")
        return replace(rows, augment=Augment(self.training.augment))

    def run(self, stop: Stop, folder: RunFolder | None, log: Listeners, watchers: tuple[Watcher, ...] = ()) -> Run:
        """Train until the epochs are over, patience ends, a signal comes or a number is not finite."""
        self.folder, self.log, self.watchers = folder, log, watchers
        pictures = self.shown.spec.kind == "image" and self.shown.spec.shape[0] in (1, 3) and not self.shard
        if folder is not None and pictures:
            self.snapshots = Snapshots(folder.path / "snapshots", self.shown)
        try:
            self._announce()
            self._divide()
            self._epochs(stop)
            status = "done" if self.signal is None else "stopped"
            self._finish(status)
        except TrainingFailed as error:
            self._finish("failed", error=str(error))
            error.run = self._run("failed", error.exit_code)
            if self.folder is not None:
                self.log.say(f"the last good state is in {self.folder.path}")
            raise
        except BaseException as error:
            with suppress(OSError):  # on a full disk the first error is the one to report
                self.log.event("end", status="failed", epoch=self.epoch, step=self.step, error=repr(error))
                if self.folder is not None:
                    self.folder.status("failed", epoch=self.epoch, step=self.step, error=repr(error))
            raise
        return self._run(status, 0 if self.signal is None else 128 + self.signal)

    def _run(self, status: Status, exit_code: int) -> Run:
        path = self.folder.path if self.folder else None
        model, best = self.model.eval(), self.best
        return Run(model, self.recipe, path, self.history, status, exit_code, best.epoch, best.value)

    def _announce(self) -> None:
        spec = self.train.spec
        count = sum(p.numel() for p in self.model.parameters())
        facts: dict[str, Any] = {
            "recipe": self.recipe.name, "data": spec.name, "binarisation": spec.binarize, "seed": self.seed,
            "device": str(self.device), "precision": self.plan.precision, "kernels": self.plan.kernels,
            "parameters": count,
            "epochs": self.training.epochs, "steps_per_epoch": self.steps_per_epoch,
            "processes": self.processes.size, "sharded": self.shard,
        }  # fmt: skip
        if self.folder is not None:
            self._describe(self.folder)
        self.log.event("resume" if self.again else "start", **facts)
        if self.again:
            self.log.say(f"going on after step {self.step:,}, epoch {self.epoch} of {self.training.epochs}")
        self.log.say(
            f"{self.recipe.name} on {spec.name}: {len(self.train):,} training and {len(self.valid):,} validation "
            f"examples of {spec.dims} values, {count:,} parameters, {self.device}, seed {self.seed}"
        )
        if self.train.resample:
            self.log.say("grey pixels are binarised anew in each batch (dynamic); validation and test once, by seed")
        if spec.label is not None and not self.model.conditional:
            self.log.say(f"{spec.label.name!r} is kept aside: {self.recipe.name} does not model it (cvae does)")
        if self.shard:
            self.log.say(f"weights, gradients and moments are divided among {self.processes.size} processes")
        for line in self.found:
            self.log.say(line)
        latents = self._latents()
        if latents >= spec.dims:
            self.log.say(
                f"warning: {latents} latent dimensions for {spec.dims} values: nothing has to be summarised "
                "(choose a smaller --latent-dim)"
            )
        if self.training.batch_size > len(self.train):
            self.log.say(f"batch size {self.training.batch_size} is more than the data: batches of {len(self.train)}")

    def _latents(self) -> int:
        """Return the number of latent dimensions of all groups."""
        return sum(math.prod(g.posterior_family.event_shape) for g in self.model.groups if isinstance(g, Group))

    def _fell_back(self) -> None:
        """Note that a pass could not be compiled."""
        self.plan = replace(self.plan, kernels="eager")
        self.log.say("a pass cannot be compiled here: training goes on without")
        if self.folder is not None:
            self.folder.environment(self._machine())

    def _machine(self) -> dict[str, Any]:
        """Return what env.json says."""
        how = {**self.plan.to_json(), "processes": self.processes.size, "sharded": self.shard}
        return {**environment(self.seed, self.device), **how}

    def _describe(self, folder: RunFolder) -> None:
        """Write what is known before the first step; from then on, the run says `running` and can be taken up.

        Where that cannot be written no folder is left, so that the same command can be given again.
        """
        if self.again:
            folder.describe_again(self.recipe)
            folder.status("running", epoch=self.epoch, step=self.step)
            return
        try:
            folder.describe(self.recipe, self.train.spec, self.about_data, self._machine())
            if self.fine_tuned:  # these weights could not be made anew
                self._checkpoint()
            folder.status("running", epoch=self.epoch, step=self.step)
        except (OSError, OutOfResource):
            folder.discard()
            raise

    def _divide(self) -> None:
        """Leave this process its part of the weights and of the state, if they are to be divided."""
        if self.shard:
            from .sharding import Sharded

            given = self.objective, self.model, self.optimizers
            self.sharded = Sharded(*given, self.train.batch(slice(0, 2)), self.processes)
            self.cast = self.sharded.cast  # the former one holds the whole weights
            self.writes = self.processes.from_first(lambda: self.folder is not None)
            self.best.weights = self.sharded.divided(self.best.weights)

    def _epochs(self, stop: Stop) -> None:
        """Run the epochs; an early end leaves the loop through `break`."""
        if not self.step:
            self._show()
        while self.epoch < self.training.epochs:
            self.epoch += 1
            started = time.perf_counter()
            sums = self._epoch(stop)
            self._check()
            self.seconds += time.perf_counter() - started
            if self.signal is not None and self.step < self.epoch * self.steps_per_epoch:
                break
            self._report("train", sums)
            self._say_left_out()
            scores = self._validate() if len(self.valid) else sums
            if len(self.valid):
                self._report("valid", scores)
            self._remember(scores)
            self._show()
            due = self._agreed(stop, due=self._due(EPOCH_SECONDS))
            if self.signal is not None or self._out_of_patience():
                break
            if due:
                self._checkpoint()

    def _due(self, seconds: float) -> bool:
        """Tell whether it is time for a checkpoint: as asked for, or so long after the last one."""
        now = self._passed()
        if self.save_every is not None:
            return self.save_every.due(self._saved_at, now)
        return now.seconds - self._saved_at.seconds > seconds

    @property
    def kept(self) -> VAE:
        """The model that is validated and kept: the moving average if there is one."""
        return self.model if self.average is None else self.average.module  # pyright: ignore[reportReturnType]

    def _show(self) -> None:
        """Show the model to the watchers; if one of them fails, what was learned is saved first."""
        with inference(self.kept), kept_generators():
            self._snapshot()
            try:
                for watcher in self.watchers:
                    watcher(self.kept, self.epoch)
            except Exception:
                with suppress(OSError):
                    self._checkpoint()
                raise

    def _snapshot(self) -> None:
        """Keep pictures of what the model makes, as long as they can be written: they must not end a training."""
        if self.snapshots is None:
            return
        try:
            self.snapshots(self.kept, self.epoch)
        except (OSError, LowerboundError) as error:
            self.snapshots = None
            with suppress(OSError):
                self.log.say(f"warning: no further pictures of this training are kept: {error}")

    def _epoch(self, stop: Stop) -> dict[str, float]:
        """Take one epoch's steps and return the mean of each term over its examples."""
        self.model.train()
        skip, self.skip = self.skip, 0
        if not skip:
            self.sums, self.total = {}, 0
        batches = islice(self.train.batches(self.seed, self.epoch, self.training.batch_size), skip, None)
        parts, counts = tee((*self.processes.part(index), len(index)) for index in batches)
        with closing(ahead(self.train, (mine for mine, *_ in parts))) as ready:
            for i, ((rows, index), (_, *count)) in enumerate(zip(ready, counts, strict=True), skip):
                outcome, weight = self._step(rows, index, *count)
                if self.step == 1:
                    self._say_scales(outcome)
                self.total = self.total + _add(self.sums, outcome.terms, weight)
                self._look(stop, i + 1)
                if self.signal is not None:
                    break
        sums, total = self.processes.add(self.sums, self.total)
        return {name: float(value) / float(total) for name, value in sums.items()}

    def _look(self, stop: Stop, done: int) -> None:
        """After a step, `done` of which are done in this epoch: show progress, look at the guard, save where due."""
        self.log.tick(self.epoch, done, self.steps_per_epoch)
        looks, last = self.device.type == "cpu" or self.step % GUARD_EVERY == 0, done == self.steps_per_epoch
        if looks:
            self._check()
        if not (looks or last or self.processes.size == 1):
            return
        if self._agreed(stop, due=not last and self._due(STEP_SECONDS)):
            self._check()
            self._checkpoint()

    def _agreed(self, stop: Stop, *, due: bool) -> bool:
        """Tell whether a checkpoint is due, as the first process sees it; a signal to one process is one to all."""
        signal, saves = self.processes.agree(stop.signal or 0, int(due and self.processes.first))
        self.signal = signal or None
        return bool(saves) and not signal

    def _step(self, rows: Dataset, index: Tensor | slice, counting: int, total: int) -> tuple[Outcome, Tensor | None]:
        """Take this process's part in a step; returns the outcome, and the weights of the rows it is of.

        Args:
            rows: the data, or rows that were read ahead.
            index: this process's rows.
            counting: of them that count.
            total: rows of all processes.
        """
        reseed(Stream.TRAINING, self.seed, self.step, *self.processes.keys())
        set_lr(self.optimizers, self._lr())
        precision = partial(low_precision, self.device) if self.plan.precision == "bf16" else nullcontext
        step = torch.tensor(float(self.step), device=self.device)
        batch, clip, skip = rows.batch(index), self.training.clip, self.training.skip_above
        given = self.objective, self.model, self.optimizers, batch, step, self.guard, clip, precision, skip
        with small_as_zero():
            if self.sharded is None:
                outcome = update(*given, self.compute, self.cast, self.pieces, self.processes, counting)
            else:
                how = (counting, total), self.pieces.rows, clip, precision, skip
                outcome = self.sharded.update(batch, step, self.guard, *how)
        if self.pieces.rows != self.training.micro_batch:
            self._cut_finer()
        if self.plan.kernels != self.compute.kernels:
            self._fell_back()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return outcome, batch.weight if counting else torch.zeros(len(batch.x), device=self.device)

    def _rows_of_a_pass(self) -> int:
        """Return the usual number of rows of a pass through the model in this process."""
        usual = torch.arange(min(self.training.batch_size, len(self.train)))
        mine = len(self.processes.part(usual)[0])
        return mine if self.pieces.rows is None else min(mine, self.pieces.rows)

    def _take_pieces(self, rows: int | None) -> None:
        self.training, self.pieces.rows = replace(self.training, micro_batch=rows), rows
        self.compute.rows = self._rows_of_a_pass()

    def _cut_finer(self) -> None:
        """Note that a batch did not fit into memory, and that its pieces are smaller from now on."""
        self._take_pieces(self.pieces.rows)
        self.log.event("micro_batch", epoch=self.epoch, step=self.step, rows=self.pieces.rows)
        self.log.say(
            f"the memory is full: from step {self.step:,} on, batches are passed in pieces of {self.pieces.rows} rows; "
            "the gradient stays that of the whole batch"
        )

    def _lr(self) -> float:
        done, how = self.step / max(1, self.training.epochs * self.steps_per_epoch), self.training
        lr = how.lr * min(1.0, (self.step + 1) / (how.lr_warmup + 1))
        if how.lr_schedule == "constant":
            return lr
        if how.lr_schedule == "step":
            return lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
        if how.lr_schedule == "constant_cosine":
            done = max(0.0, 3 * done - 2)
        return lr * 0.5 * (1 + math.cos(math.pi * done))

    def _check(self) -> None:
        failure = self.guard.failed()
        if failure is not None:
            names, step = failure
            raise TrainingFailed(
                f"{names} was not finite at step {step}; training stopped before that step changed a weight",
                where=f"epoch {self.epoch}",
                fix="lower --lr, set --clip 1.0, or raise the floor of a learned variance",
            )

    def _say_left_out(self) -> None:
        """Say how many steps of the epoch were left out, since their gradients were too large."""
        count = int(self.guard.left_out)
        if count:
            self.guard.left_out.zero_()
            limit = self.training.skip_above
            self.log.event("skipped", epoch=self.epoch, step=self.step, steps=count)
            self.log.say(f"epoch {self.epoch}: {count} steps were left out: a gradient's norm was above {limit:g}")

    def _say_scales(self, outcome: Outcome) -> None:
        latents = self._latents()
        dims = {"distortion": self.train.spec.dims, "rate": latents}
        parts = [
            f"{name} {float(outcome.terms[name].detach().mean()):.1f} nats ({size} dims)"
            for name, size in dims.items()
            if name in outcome.terms
        ]
        bound = "; both summed over dimensions, so beta = 1 is the ELBO" if self.objective.monitor == "elbo" else ""
        if self.train.spec.log_scale is not None:
            bound += "; densities of standardised columns, `evaluate` reports the data's own units"
        self.log.say(f"step 0: {', '.join(parts)}{bound}")

    def _validate(self) -> dict[str, float]:
        """Return the mean of each term over the validation split, with noise that depends on the seed alone."""
        sums, total = {}, 0
        step = torch.tensor(float(self.step), device=self.device)
        size, rank, block = self.processes.size, self.processes.rank, self.valid.most_rows(EVAL_ROWS)
        with inference(self.kept):
            blocks = math.ceil(len(self.valid) / block)
            for i in range(rank, size * math.ceil(blocks / size), size):
                if i >= blocks and self.sharded is None:
                    break
                start = block * min(i, blocks - 1)  # where weights are divided, all make as many passes
                with seeded(Stream.VALIDATION, self.seed, i):  # the noise of a block, whichever process scores it
                    batch = self.valid.batch(slice(start, start + block))
                    terms = self._outcome(batch, step).terms
                if i < blocks:
                    total = total + _add(sums, terms, batch.weight)
        sums, total = self.processes.add(sums, total)
        return {name: float(value) / float(total) for name, value in sums.items()}

    def _outcome(self, batch: Batch, step: Tensor) -> Outcome:
        if self.sharded is not None:
            return self.sharded(batch, step)
        return self.objective(self.kept, batch, step)

    def _report(self, split: str, terms: Mapping[str, float]) -> None:
        named = {name: terms.get(name) for name in ("elbo", "distortion", "rate")}
        more = {name: value for name, value in terms.items() if name not in named}
        values = {"epoch": self.epoch, "step": self.step, "split": split, **named, **more, "seconds": self.seconds}
        self.history.append(values)
        self.log.event("epoch", **values)

    def _remember(self, terms: Mapping[str, float]) -> None:
        value = terms[self.objective.monitor]
        if not math.isfinite(value):
            raise TrainingFailed(
                f"{self.objective.monitor} was not finite on the validation rows",
                where=f"epoch {self.epoch}",
                fix="look for extreme values in the data, or lower --lr",
            )
        # without validation rows there is no fair judge: noise picks the best epoch, so the last one is kept
        if not len(self.valid) or self.best.improves(value, maximize=self.objective.maximize):
            self.best = Best(value, self.epoch, copy.deepcopy(self.kept.state_dict()))

    def _out_of_patience(self) -> bool:
        patience = self.training.patience
        if patience is None or self.step < self.objective.settled:
            return False
        settled_epoch = math.ceil(self.objective.settled / self.steps_per_epoch)
        if self.epoch - max(self.best.epoch, settled_epoch) < patience:
            return False
        self.log.say(f"no better {self.objective.monitor} for {patience} epochs: stopping")
        return True

    def restore(self, path: Path) -> None:
        """Go back to the checkpoint at `path`.

        Raises:
            CorruptArtifact: if it is damaged or belongs to another model.
        """
        state = State(self.model, self.objective, self.optimizers, {}, self.average)
        load_checkpoint(path, state)
        done = state.progress
        self.again = True
        self.epoch, self.step, self.seconds = int(done["epoch"]), int(done["step"]), float(done["seconds"])
        self._take_pieces(done.get("micro_batch"))  # older checkpoints have none
        if done["best"] is not None:
            weights = {name: t.to(self.model.device) for name, t in state.best.items()}
            self.best = Best(float(done["best"]), int(done["best_epoch"]), weights)
        self.skip = self.step - max(self.epoch - 1, 0) * self.steps_per_epoch
        if self.skip < self.steps_per_epoch and self.epoch:  # stopped inside an epoch, which is then taken up again
            self.epoch -= 1
            share = float(self.processes.first)  # sums of all processes are the first one's from here on
            self.sums = {name: _wide(share * value, self.device) for name, value in done["sums"].items()}
            self.total = _wide(share * done["total"], self.device)
            self.guard.left_out.fill_(int(done["left_out"]))
        else:
            self.skip = 0

    def _after(self) -> None:
        """Fit the priors that the recipe wants once its model is trained, and save the model with them."""
        data = Data(replace(self.train, augment=None), self.valid, self.valid)
        for phase in self.recipe.after:
            plan = {"epochs": phase.epochs, "batch_size": phase.batch_size, "lr": phase.lr, "seed": self.seed}
            self.model = fit_prior(self.model, phase.priors, data, say=self.log.say, **plan)
        if self.recipe.after and self.folder is not None:
            save(self.model, self.folder.path / "model", recipe=self.recipe.name, options=self.recipe.options)

    def _checkpoint(self) -> None:
        """Save the state of training, and the best weights so far as the model."""
        inside = self.step % self.steps_per_epoch != 0
        sums, total = self.processes.add(self.sums, self.total) if inside else (self.sums, self.total)
        self._saved_at = self._passed()
        if not self.writes:
            return
        model, objective, optimizers, best = self._whole()
        if self.folder is None:
            return
        progress = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "seed": self.seed}
        progress |= {"best": None if math.isnan(self.best.value) else self.best.value, "best_epoch": self.best.epoch}
        progress |= {"sums": {name: float(value) for name, value in sums.items()}, "total": float(total)}
        progress |= {"left_out": int(self.guard.left_out), "micro_batch": self.pieces.rows}
        state = State(model, objective, optimizers, progress, self.average, best)
        kept = copy.deepcopy(model if self.average is None else self.kept)
        if best:  # without a whole epoch there are only the current weights
            kept.load_state_dict(best)
        save(kept, self.folder.path / "model", recipe=self.recipe.name, options=self.recipe.options)
        path = save_checkpoint(self.folder.path / "checkpoints", state)
        self.folder.status("running", epoch=self.epoch, step=self.step)
        self.log.event("checkpoint", epoch=self.epoch, step=self.step, path=path.name)
        self._saved_at = self._passed()  # counted from when it is written

    def _passed(self) -> Passed:
        return Passed(self.step, self.step // self.steps_per_epoch, time.monotonic())

    def _whole(self) -> tuple[VAE, Objective, Mapping[str, Optimizer], dict[str, Tensor]]:
        """Return model, objective, optimisers and best weights; if they are divided, whole in the first process."""
        here = self.model, self.objective, self.optimizers
        if self.sharded is None:
            return *here, self.best.weights
        best = self.sharded.whole(self.best.weights)
        return *(self.sharded.gathered(lambda: self.recipe.build(self.seed), self.training) or here), best

    def _put_together(self) -> None:
        """Make the model with the best weights, or the current ones, in every process."""
        if self.sharded is not None:
            weights = self.sharded.whole(self.best.weights or self.model.state_dict(), everywhere=True)
            self.sharded, self.optimizers = None, {}
            self.model, self.objective = self.recipe.build(self.seed)
            self.model.load_state_dict(weights)
            self.model.to(self.device)
        elif self.best.weights:
            self.model.load_state_dict(self.best.weights)

    def _finish(self, status: Literal["done", "stopped", "failed"], **more: Any) -> None:
        self._checkpoint()
        self._put_together()
        if status == "done":
            self._after()
        self.log.event("end", status=status, epoch=self.epoch, step=self.step, seconds=self.seconds, **more)
        if self.folder is not None:
            self.folder.status(status, epoch=self.epoch, step=self.step, **more)
