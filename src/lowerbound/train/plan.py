"""How a training computes: precision, kernels and threads, by rule from the work that is left, never by timing."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ..core.errors import UsageError, memory_is_full
from ..core.model import VAE, Stateful, Sums, learned
from ..core.noise import Stream, seeded
from ..core.objective import Objective, Outcome, first_step
from ..core.types import Batch
from ..data.dataset import Dataset
from ..networks.products import ConvolutionsAsProducts

Precision: TypeAlias = Literal["auto", "float32", "bf16"]
Kernels: TypeAlias = Literal["auto", "eager", "compiled"]

LONG = 1e13  # floating-point operations: about a minute on two cores
VERY_LONG = 4 * LONG
MANY = 5_000  # steps: compilation takes half a minute, and saves some of each
FEW = 500  # steps that are not worth counting the operations of one
WIDE = 128  # channels from which a convolution gains from being a product in bfloat16
_PROBE = 2  # examples that are passed to count them

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a training computes; kept in env.json, so that a run that goes on computes as it did before.

    Args:
        precision: of the networks, "float32" or "bf16"; weights, densities and the optimiser stay in float32.
        kernels: "eager", or "compiled": loss and gradient of a whole batch are one graph (`torch.compile`).
        threads: of the CPU.
    """

    precision: Literal["float32", "bf16"] = "float32"
    kernels: Literal["eager", "compiled"] = "eager"
    threads: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def check_asked(precision: str, kernels: str) -> None:
    """Raise UsageError unless there are such a precision and such kernels."""
    if precision not in get_args(Precision):
        raise UsageError(
            f"there is no precision {precision!r}",
            expected="float32, bf16 or auto",
            fix="use bf16 for float16",
        )
    if kernels not in get_args(Kernels):
        raise UsageError(f"there are no kernels {kernels!r}", expected=", ".join(get_args(Kernels)))


def choose(
    model: VAE, objective: Objective, rows: Dataset, steps: int, batch_size: int, asked: tuple[Precision, Kernels]
) -> Plan:
    """Return the plan of a training.

    In long trainings (10^13 operations or more), networks compute in bfloat16 where the processor has instructions for
    it, the data are zeros and ones, and nothing but encoder and decoder has weights; with 5,000 steps or more, or
    4 * 10^13 operations, a pass is compiled where it can be. Convolutions in bfloat16 on a processor are not: as matrix
    products they gain more, if they are wide; where most are narrow (fewer than 128 channels) float32 is faster.

    Args:
        model: on the device it is trained on.
        objective: its objective.
        rows: training rows, there too.
        steps: that are to be taken.
        batch_size: rows of each.
        asked: precision and kernels; "auto" follows the rule.
    """
    precision, kernels = asked
    work = _work(model, objective, rows, batch_size) * steps if "auto" in asked and steps >= FEW else 0.0
    long = work >= LONG
    if precision == "auto":
        precision = "bf16" if long and _suits_bf16(model) else "float32"
    if kernels == "auto":
        products = precision == "bf16" and has_products(model, objective)
        pays = (long and steps >= MANY) or work >= VERY_LONG
        compiles = pays and not products and can_compile(model, objective)
        kernels = "compiled" if compiles else "eager"
    return Plan(precision, kernels, torch.get_num_threads())


def _work(model: VAE, objective: Objective, rows: Dataset, batch_size: int) -> float:
    """Return the floating-point operations of one step, forward and backward, of matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    index = torch.arange(_PROBE, device=rows.x.device) % len(rows)
    counter = FlopCounterMode(display=False)
    with counter, seeded(Stream.TRAINING, 0):
        objective(model, rows.batch(index), first_step().to(rows.x.device))
    return 3 * counter.get_total_flops() / _PROBE * batch_size


def _suits_bf16(model: VAE) -> bool:
    plain = model.decoder.family.support == "binary" and not list(model.groups.parameters())
    return plain and has_bf16(model.device) and (model.device.type != "cpu" or not _is_narrow(model))


def _is_narrow(model: VAE) -> bool:
    """Tell whether most convolutions have too few channels for products of bfloat16 to make up for copying patches."""
    convs = _convolutions(model)
    return sum(min(conv.in_channels, conv.out_channels) < WIDE for conv in convs) > len(convs) / 2


def _convolutions(*modules: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for module in modules for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def has_bf16(device: torch.device) -> bool:
    """Tell whether a processor multiplies matrices of bfloat16 faster than others."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def has_products(model: VAE, objective: Objective) -> bool:
    """Tell whether there are convolutions which, in bfloat16, are matrix products: those on a processor."""
    return model.device.type == "cpu" and bool(_convolutions(model, objective))


@contextmanager
def low_precision(device: torch.device, *, products: bool) -> Iterator[None]:
    """Compute networks in bfloat16 inside; where asked for, convolutions as the matrix products that gain from it.

    The mode that replaces convolutions looks at each call of torch, and cannot be compiled: it is for models with some.
    """
    with ConvolutionsAsProducts() if products else nullcontext(), torch.autocast(device.type, torch.bfloat16):
        yield


def can_compile(model: VAE, objective: Objective) -> bool:
    """Tell whether a pass can be compiled: one player, and a compiler."""
    one = len(objective.players(model)) == 1
    # a C++ compiler makes the kernels of the CPU, Triton those of a GPU
    known = (os.environ.get("CXX", "g++"), "clang++")
    return one and (model.device.type == "cuda" or any(shutil.which(name) for name in known))


class Pass:
    """Computes losses and terms of a batch: eagerly, or in one compiled graph for batches of the usual size.

    Args:
        kernels: "eager" or "compiled".
        rows: the usual number of rows; other batches are computed eagerly, since each size is compiled anew.
        stateful: modules that learn from a pass, which for them gives sums where it is compiled.
    """

    def __init__(self, kernels: Literal["eager", "compiled"], rows: int, stateful: tuple[Stateful, ...] = ()) -> None:
        self.rows, self.stateful = rows, stateful
        self.compiled = None
        if kernels == "compiled":
            torch.compiler.reset()  # a process may train many models, and keeps the kernels of a few only
            options: dict[str, Any] = {"fallback_random": True}  # the same draws as without compiling
            unguarded = getattr(torch.compiler, "skip_all_guards_unsafe", None)
            if unguarded is not None:  # one model and one objective, and batches of one shape: nothing to look at
                options["guard_filter_fn"] = unguarded
            self.compiled = torch.compile(_numbers, fullgraph=True, dynamic=False, options=options)

    @property
    def kernels(self) -> Literal["eager", "compiled"]:
        """What is in use."""
        return "eager" if self.compiled is None else "compiled"

    def __call__(self, objective: Objective, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return what the objective makes of the batch; a compiled pass keeps no trace."""
        if self.compiled is None or len(batch.x) != self.rows:
            return objective(model, batch, step)
        try:
            losses, terms, sums = self.compiled(objective, model, self.stateful, batch, step)
        except RuntimeError as error:  # no compiler after all, or a part that cannot be compiled
            if memory_is_full(error):
                raise
            _log.info("training goes on without compiling: %s", str(error).splitlines()[0])
            self.compiled = None
            return objective(model, batch, step)
        return Outcome(losses, terms, None, sums)


def _numbers(
    objective: Objective, model: VAE, stateful: tuple[Stateful, ...], batch: Batch, step: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Sums]:
    outcome = objective(model, batch, step)
    sums = {} if outcome.trace is None else learned(stateful, outcome.trace, batch)
    return outcome.losses, outcome.terms, sums


def start_threads() -> None:
    """Start the threads that share the work of one operation, such that they too take numbers below 1e-38 for 0.

    A thread keeps what it was started with, so a program that trains calls this before anything else.
    """
    with small_as_zero():
        torch.zeros(1 << 20).add_(1)


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Use so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def small_as_zero() -> Iterator[None]:
    """Take numbers below 1e-38 for 0 inside, in this thread and in those that start now.

    The mean gradient of a weight behind a pixel that is hardly ever on sinks below what float32 can normally hold
    within some hundred steps of Adam, and from then on a processor spends many times as long on it.
    """
    before = float(torch.tensor(1e-30) * 1e-10) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
