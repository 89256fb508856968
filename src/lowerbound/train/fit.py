"""`fit`: train a recipe on data."""

from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..core.errors import CorruptArtifact, DataError, UsageError
from ..core.model import VAE
from ..core.noise import kept_generators
from ..core.recipe import AugmentName, LrSchedule, OptimizerName, Recipe
from ..data.checks import fingerprint
from ..data.dataset import Data
from ..ship.files import read_json
from .checkpoint import checkpoints
from .log import Listener, Listeners, LogFile, MetricsFile, Terminal
from .loop import Loop
from .plan import Kernels, Precision, check_asked, computing
from .processes import ALONE, join
from .run import Run, RunFolder, stoppable
from .saving import SaveEvery
from .shardable import check_several, check_unwatched
from .watching import Watcher

PROCESS_TIMEOUT = 600.0  # seconds


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is a GPU if there is one.

    Raises:
        UsageError: if it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()):
        return torch.device(name)
    raise UsageError(
        f"there is no device {name!r} here", expected="cpu" + (", cuda" if torch.cuda.is_available() else "")
    )


def fit(
    recipe: Recipe,
    data: Data,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    lr_schedule: LrSchedule | None = None,
    lr_warmup: int | None = None,
    optimizer: OptimizerName | None = None,
    micro_batch: int | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    skip_above: float | None = None,
    ema: float | None = None,
    patience: int | None = None,
    augment: tuple[AugmentName, ...] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "auto",
    kernels: Kernels = "auto",
    devices: int | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
    shard: bool = False,
    init: VAE | None = None,
    out: str | Path | None = None,
    save_every: str | None = None,
    progress: bool = True,
    listeners: tuple[Listener, ...] = (),
    watchers: tuple[Watcher, ...] = (),
    report: bool = True,
) -> Run:
    """Train a recipe on data and return the run with the best weights by the objective's monitor on validation rows.

    Without validation rows the last weights are kept.

    Args:
        recipe: what to train.
        data: what to train it on.
        epochs: passes through the training data; 0 gives the initial model. Default: the recipe's, as for the next.
        batch_size: examples in one step.
        lr: learning rate.
        lr_schedule: "constant", "cosine" to 0, "constant_cosine": constant, in the last third by a cosine to 0, or
            "step": a tenth after half of the training, a hundredth after three quarters.
        lr_warmup: steps over which the learning rate rises to its place in the schedule.
        optimizer: "adam", "adamw", "sgd" or "adamax".
        micro_batch: examples of a step that are passed at a time, where the memory does not hold all; the gradient
            stays that of the batch. Without it, pieces are made where the memory turns out to be full.
        weight_decay: the optimiser's L2 penalty.
        clip: the largest norm of a player's gradient.
        skip_above: leave out steps whose gradient has a larger norm; they are counted.
        ema: decay of a moving average of the weights, which is kept in their place.
        patience: epochs without a better monitor before stopping, counted once all schedules have settled.
        augment: how training images are changed in each batch: "shift", "rotate", "flip", "crop".
        seed: decides initial weights, order and noise: the same seed gives the same bytes on the same machine.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "bf16" runs the networks in bfloat16; weights and densities stay in float32. "auto" takes it in long
            trainings on zeros and ones, where the processor has instructions for it and only encoder and decoder have
            weights; otherwise "float32".
        kernels: "compiled" makes one graph of each pass by torch.compile, which takes half a minute; "auto" does so in
            long trainings of many steps where it can be done; otherwise "eager".
        devices: processes that train together, each a part of every batch, on GPUs of their own where there are some.
            Scripts are started by torchrun then, which says how many there are.
        process_timeout: seconds that they wait for each other; then one that does not answer is held for lost.
        shard: divide weights, gradients and the optimiser's state among the processes, for models that one device does
            not hold; for objectives with one player (docs/architecture.md says which).
        init: a trained model of the same shapes whose weights to start from (fine-tuning).
        out: run folder to create; None writes nothing.
        save_every: "500 steps", "2 epochs" or "10 minutes" between two checkpoints. Default: after an epoch, if half a
            minute has passed, and every five minutes in a long one.
        progress: show progress on standard error.
        listeners: further listeners.
        watchers: functions `(model, epochs_done)` that look at the model before the first epoch and after each; what
            they draw changes nothing.
        report: write report.html into the run folder at the end.

    Raises:
        UsageError: if an option is out of range or `out` exists.
        DataError: if there are too few examples.
        Incompatible: if the weights of `init` do not fit, or those of the model cannot be divided.
        ProcessLost: if another process of this training ended or does not answer.
        TrainingFailed: if a term is not finite; its `run` is the last good state, which is saved first.
    """
    given: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "lr_schedule": lr_schedule, "lr_warmup": lr_warmup,
        "optimizer": optimizer, "weight_decay": weight_decay, "clip": clip, "skip_above": skip_above, "ema": ema,
        "patience": patience, "augment": augment, "micro_batch": micro_batch,
    }  # fmt: skip
    training = replace(recipe.training, **{k: v for k, v in given.items() if v is not None})
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise UsageError(f"the seed cannot be {seed}", expected="0 to 2^63 - 1")
    check_asked(precision, kernels)
    if len(data.train) < 2:
        raise DataError(f"{data.spec.name} has {len(data.train)} training examples", expected="at least 2")
    saving = None if save_every is None else SaveEvery.of(save_every)
    processes = join(devices, device, process_timeout)
    place = pick_device(device) if processes is ALONE else processes.device
    if shard:
        check_several(processes)
        check_unwatched(watchers)
    how = {"shard": shard, "save_every": saving}
    loop = Loop(recipe.replace(training=training), data, seed, place, precision, kernels, init, processes, **how)
    folder = RunFolder(Path(out)) if out is not None and processes.first else None
    run = _run(loop, folder, listeners, watchers, progress=progress)
    return _reported(run, data, loop) if report else run


def _restore(loop: Loop, found: list[Path], talk: Listeners) -> None:
    """Go back to the newest checkpoint that is whole, and say which were not; without any, to the first step.

    Raises:
        CorruptArtifact: if there are some, and none is whole.
    """
    loop.progress.again = True
    for i, path in enumerate(reversed(found)):
        try:
            loop.keeper.restore(path)
        except CorruptArtifact as error:
            if i + 1 == len(found):
                raise
            talk.say(f"warning: {path.name} cannot be used, going back to the one before: {str(error).splitlines()[0]}")
        else:
            return


def _run(
    loop: Loop,
    folder: RunFolder | None,
    listeners: tuple[Listener, ...],
    watchers: tuple[Watcher, ...] = (),
    *,
    progress: bool,
) -> Run:
    if not loop.processes.first:
        listeners, watchers, progress = (), (), False
    heard: list[Listener] = [*listeners, *([Terminal()] if progress else [])]
    if folder is not None:
        heard += [MetricsFile(folder.path / "metrics.jsonl"), LogFile(folder.path / "log.txt")]
    # the generators that are kept and reseeded are those of the current GPU
    current = torch.cuda.device(loop.device) if loop.device.type == "cuda" else nullcontext()
    try:
        with current, computing(loop.learner.plan.threads), stoppable() as stop, kept_generators():
            return loop.run(stop, folder, Listeners(heard), watchers)
    finally:
        if folder is not None:
            folder.release()


def _reported(run: Run, data: Data, loop: Loop) -> Run:
    """Write the report of a finished run; what goes wrong is said, since the run itself is already saved."""
    if run.folder is None or run.status != "done":
        return run
    try:
        from ..explore.pictures import Shown
        from ..explore.report import write_report

        shown = Shown.of(run.model, data, snapshots=run.folder / "snapshots")
        line = f"report: {write_report(run.folder, run.folder / 'report.html', shown)}"
    except Exception as error:  # a picture, whatever happens to it, must not cost a finished training
        line = f"warning: no report was written: {' '.join(str(error).split()) or type(error).__name__}"
    with suppress(OSError):
        loop.log.say(line)
    return run


def _computed(machine: dict[str, Any], where: Path) -> tuple[Precision, Kernels, int]:
    """Return precision, kernels and threads of a run, as its env.json has them; older versions were eager.

    Raises:
        CorruptArtifact: if they make no sense.
    """
    precision, kernels = machine.get("precision"), machine.get("kernels", "eager")
    threads = machine.get("threads", torch.get_num_threads())
    if precision not in ("float32", "bf16") or kernels not in ("eager", "compiled"):
        raise CorruptArtifact(f"it speaks of precision {precision!r} and kernels {kernels!r}", where=str(where))
    if not isinstance(threads, int) or threads < 1:
        raise CorruptArtifact(f"it speaks of {threads!r} threads", where=str(where))
    return precision, kernels, threads


def _say_processes(loop: Loop, machine: dict[str, Any], talk: Listeners) -> None:
    before, now = machine.get("processes", 1), loop.processes.size
    if before != now:
        talk.say(
            f"warning: {before} process{'es' if before != 1 else ''} began this run, and {now} go on with it: it ends "
            "as good, but not with the same weights bit by bit"
        )


def _ended_early(run: Path) -> bool:
    return read_json(run / "status.json").get("status") != "done"


def resume(
    run: str | Path,
    data: Data,
    *,
    epochs: int | None = None,
    device: str = "auto",
    devices: int | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
    shard: bool | None = None,
    save_every: str | None = None,
    progress: bool = True,
    listeners: tuple[Listener, ...] = (),
    report: bool = True,
) -> Run:
    """Go on with a run that was stopped or killed, or give a finished one more epochs, in its own folder.

    Order and noise are functions of the seed and the step, so on the same machine a run ends with the weights it would
    have had, bit by bit, wherever it was cut off; before its first checkpoint, it begins at the first step. Under a
    cosine schedule more epochs raise the learning rate to its place in the longer training.

    Args:
        run: the run folder.
        data: the data it was trained on.
        epochs: passes through the training data in all, those already done included; None: as many as were planned.
        device: "auto", "cpu", "cuda", ...
        devices: processes that train together, as for `fit`; as many as before give the same weights.
        process_timeout: seconds that they wait for each other.
        shard: divide the weights among the processes, as for `fit`. None: if they were before, and there are several.
        save_every: how often the state is saved, as for `fit`.
        progress: show progress on standard error.
        listeners: further listeners.
        report: write report.html into the run folder at the end.

    Raises:
        DataError: if the data have changed, or a finished run has no checkpoint.
        UsageError: if there is nothing left to do, or another process trains the run.
        ProcessLost: if another process of this training ended or does not answer.
        CorruptArtifact: if a file of the run is damaged.
    """
    path = Path(run)
    described, origin, machine = (read_json(path / f"{name}.json") for name in ("recipe", "data", "env"))
    recipe = Recipe.from_description(described)
    if origin.get("fingerprint", same := fingerprint(data)) != same:  # older runs have none
        raise DataError(f"{data.spec.name} is not what {path.name} was trained on", fix="fine-tune: --init-from RUN")
    if not checkpoints(path / "checkpoints") and not _ended_early(path):
        raise DataError(f"{path} has no checkpoint to go on from", fix="train it again")
    training = recipe.training if epochs is None else replace(recipe.training, epochs=epochs)
    saving = None if save_every is None else SaveEvery.of(save_every)
    processes = join(devices, device, process_timeout)
    place = pick_device(device) if processes is ALONE else processes.device
    folder = RunFolder.again(path) if processes.first else None
    try:
        precision, kernels, threads = _computed(machine, path / "env.json")
        seed, recipe = int(machine["seed"]), recipe.replace(training=training)
        shard = bool(machine.get("sharded")) and processes.size > 1 if shard is None else shard
        if shard:
            check_several(processes)
            kernels = "eager"
        how = {"processes": processes, "shard": shard, "save_every": saving}
        loop = Loop(recipe, data, seed, place, precision, kernels, **how)
        loop.learner.plan = replace(loop.learner.plan, threads=threads)
        talk = Listeners([] if folder is None else [Terminal() if progress else LogFile(path / "log.txt")])
        _restore(loop, checkpoints(path / "checkpoints"), talk)
        _say_processes(loop, machine, talk)
        # a run that was cut off after its last epoch still has its end to write, and perhaps its priors to fit
        early = processes.from_first(lambda: _ended_early(path))
        beyond = not early or loop.progress.skip > 0  # inside the next epoch, which cannot be left out any more
        if loop.progress.epoch > training.epochs or (loop.progress.epoch == training.epochs and beyond):
            part = " and a part of another" if loop.progress.skip else ""
            raise UsageError(
                f"{path.name} has {loop.progress.epoch} epochs{part} already",
                expected=f"--epochs above {loop.progress.epoch}, the number in all",
            )
    except BaseException:
        if folder is not None:
            folder.release()
        raise
    loop.taken_up = early and epochs is None
    done = _run(loop, folder, listeners, progress=progress)
    return _reported(done, data, loop) if report else done
