"""TensorBoard, Weights & Biases, MLflow and trackio: each a few lines that pass on what the reader has read."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from ..core.errors import UsageError
from .reader import Scalar

Name = Literal["tensorboard", "wandb", "mlflow", "trackio"]
NAMES: tuple[Name, ...] = get_args(Name)
_MLFLOW_STATUS = {"running": "RUNNING", "done": "FINISHED", "failed": "FAILED"}  # anything else was ended from outside


@dataclass(frozen=True)
class About:
    """What a tracker is told at the start.

    Args:
        folder: the run folder.
        name: what to call the run.
        project: what to file it under.
        options: hyper-parameters and environment.
        known: the tracker's own name of the run if it has it already, else "".
    """

    folder: Path
    name: str
    project: str
    options: Mapping[str, Scalar]
    known: str


@runtime_checkable
class Tracker(Protocol):
    """Is told numbers; `id` is its own name of the run, by which it finds it again."""

    id: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the numbers of a step."""
        ...

    def results(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers about the run as a whole, known after `step` steps."""
        ...

    def close(self, status: str) -> None:
        """Note what became of the run, and send what is still held back."""
        ...


class TensorBoard:
    """Event files in the run folder's `tensorboard/`, for `tensorboard --logdir runs`; values are float32 there."""

    def __init__(self, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        taken = sum(1 for _ in about.folder.glob("tensorboard*"))
        self.id = about.known or (f"tensorboard-{taken + 1}" if taken else "tensorboard")
        self.writer = SummaryWriter(str(about.folder / self.id))
        if not about.known:
            for summary in hparams(dict(about.options), {}):
                self.writer._get_file_writer().add_summary(summary)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    results = log

    def close(self, status: str) -> None:
        self.writer.add_text("status", status)
        self.writer.close()


class WandB:
    """Weights & Biases; WANDB_MODE=offline writes below wandb/, for `wandb sync`."""

    def __init__(self, about: About) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        named = {"project": about.project, "name": about.name, "config": dict(about.options)}
        self.run: Any = wandb.init(**named, id=about.known or None, resume="allow")
        self.id = self.run.id

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def results(self, values: Mapping[str, float], step: int) -> None:
        self.run.summary.update(dict(values))

    def close(self, status: str) -> None:
        self.run.summary.update({"status": status})
        self.run.finish(exit_code=int(status in ("failed", "killed")))


class MLflow:
    """MLflow's tracking store, where MLFLOW_TRACKING_URI says; MLflow's own default without."""

    def __init__(self, about: About) -> None:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        self.client = MlflowClient()
        self.id = about.known
        if self.id:
            self.client.update_run(self.id, status="RUNNING")
            return
        found = self.client.get_experiment_by_name(about.project)
        experiment = self.client.create_experiment(about.project) if found is None else found.experiment_id
        self.id = self.client.create_run(experiment, run_name=about.name).info.run_id
        for name, value in about.options.items():
            self.client.log_param(self.id, name, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = int(1000 * time.time())
        self.client.log_batch(self.id, [Metric(name, value, now, step) for name, value in values.items()])

    results = log

    def close(self, status: str) -> None:
        self.client.set_tag(self.id, "lowerbound.status", status)
        self.client.set_terminated(self.id, _MLFLOW_STATUS.get(status, "KILLED"))


class Trackio:
    """trackio's local SQLite database, shown by `trackio show`."""

    def __init__(self, about: About) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self.id = about.known or f"{about.name}-{time.time_ns() // 1_000_000:x}"
        self.run: Any = trackio.init(
            about.project, self.id, config=dict(about.options), resume="allow", embed=False,
            auto_log_cpu=False, auto_log_gpu=False,
        )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    results = log

    def close(self, status: str) -> None:
        self.run.log({"status": status})
        self.run.finish()


_MAKERS: dict[Name, Callable[[About], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def check_installed(name: Name) -> None:
    """Raise UsageError unless the library of a tracker is there."""
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed here", fix=f'pip install "lowerbound[{name}]"')


def open_tracker(name: Name, about: About) -> Tracker:
    """Return a tracker that is told of a run.

    Raises:
        UsageError: if its library is not installed.
    """
    check_installed(name)
    return _MAKERS[name](about)
