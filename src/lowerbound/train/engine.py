"""Several processes that train one model; the only module that imports Lightning Fabric.

Fabric finds out who this process is among those that torchrun started, connects them and carries the exchanges. Models
are not wrapped: with wrappers, players that overlap or rest in a step diverge or fail.
"""

import atexit
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from ..core.errors import ProcessLost, UsageError
from .processes import Launched, Processes, packed, unpack

T = TypeVar("T")
_SIGNS = ("timed out", "timeout", "closed by peer", "connection reset", "broken pipe", "connection closed", "nccl")
_MOMENT = 0.1  # seconds, for threads that have nothing else left to do


class Joined(Processes):
    """The processes that one command started together, here or on several machines.

    Args:
        launched: who this process is, as the launcher says.
        device: "auto", "cpu", "cuda": with GPUs, each process takes its own.
        seconds: that an exchange may take; then another process is held for lost.

    Raises:
        ProcessLost: here and in all methods, if another process does not answer in that time.
    """

    def __init__(self, launched: Launched, device: str, seconds: float) -> None:
        for name in ("lightning_fabric", "lightning.fabric"):  # it announces each process
            logging.getLogger(name).setLevel(logging.ERROR)
        self.rank, self.size, self.seconds = launched.rank, launched.size, seconds
        gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        if ":" in device:
            raise UsageError(f"{launched.size} processes cannot share {device}", expected="cpu, cuda or auto")
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, timeout=timedelta(seconds=seconds))
        self.fabric = Fabric(
            accelerator="cuda" if gpu else "cpu",
            strategy=strategy,
            devices=launched.here,
            num_nodes=launched.machines,
        )
        with self.answering():
            self.fabric.launch()
        atexit.register(_leave)
        self.device = self.fabric.device

    @contextmanager
    def answering(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _SIGNS):
                raise
            raise ProcessLost(
                f"process {self.rank} of {self.size} waited for another one that ended or did not answer within "
                f"{self.seconds:g} seconds",
                fix="go on from the last checkpoint: lowerbound resume RUN (where one machine is only slow, raise "
                "--process-timeout)",
            ) from error

    def _reduced(self, values: Tensor, how: str) -> Tensor:
        with self.answering():
            return self.fabric.all_reduce(values, reduce_op=how)  # pyright: ignore[reportReturnType]

    def average(self, parameters: Sequence[nn.Parameter], rows: int, numbers: Sequence[Tensor]) -> list[Tensor]:
        return unpack(parameters, self._reduced(packed(parameters, rows, numbers), "sum"), numbers)

    def add(
        self, sums: Mapping[str, Tensor], total: Tensor | float | int
    ) -> tuple[dict[str, Tensor], Tensor | float | int]:
        names = self.from_first(lambda: list(sums))  # one that passed no rows does not know them
        mine = [sums.get(name, 0.0) for name in names]
        values = torch.tensor([float(v) for v in (*mine, total)], dtype=torch.float64, device=self.device)
        summed = self._reduced(values, "sum")
        return dict(zip(names, summed[:-1], strict=True)), summed[-1]

    def total(self, numbers: Sequence[Tensor]) -> list[Tensor]:
        values = [number.detach().double() for number in numbers]
        summed = self._reduced(torch.cat([value.flatten() for value in values]), "sum")
        parts = summed.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def agree(self, *numbers: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._reduced(torch.tensor(numbers), "max"))

    def same(self, *modules: nn.Module) -> None:
        for module in modules:
            for value in module.state_dict().values():
                with self.answering():
                    torch.distributed.broadcast(value, 0)

    def from_first(self, made: Callable[[], T]) -> T:
        with self.answering():
            return self.fabric.broadcast(made() if self.first else None, 0)  # pyright: ignore[reportReturnType]


def _leave() -> None:
    """End the connection while the interpreter still stands.

    A thread of Gloo that lets go of a tensor while the interpreter is taken down aborts the process after its work. The
    end of the connection ends its threads, but not where weights were divided: torch's caches keep it. There they get a
    moment to let go.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(_MOMENT)
