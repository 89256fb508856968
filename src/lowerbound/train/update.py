"""One optimiser step for any number of players."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer

from ..core.errors import OutOfResource, memory_is_full
from ..core.model import VAE, Scale, Stateful, Sums, learned
from ..core.noise import go_back, states
from ..core.objective import Objective, Outcome
from ..core.recipe import Training
from ..core.types import Batch
from .processes import ALONE, Processes

SCALE_LR = 0.03
Compute: TypeAlias = Callable[[Objective, VAE, Batch, Tensor], Outcome]
"""Computes losses and terms of a batch."""


def make_optimizers(players: Mapping[str, list[nn.Parameter]], training: Training) -> dict[str, Optimizer]:
    """Return one optimiser for each player; likelihood scales learn at `SCALE_LR` at least."""
    kinds: dict[str, Any] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "adamax": Adamax}
    options: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay}
    if training.optimizer != "adamax":  # torch has no fused Adamax
        options["fused"] = True
    # a step of SGD is as large as the gradient, which for a scale sums over all values: it needs no help
    factor = 1.0 if training.optimizer == "sgd" else max(1.0, SCALE_LR / training.lr)
    made = {}
    for name, parameters in players.items():
        scales = [p for p in parameters if isinstance(p, Scale)]
        others = [p for p in parameters if not isinstance(p, Scale)]
        groups = [{"params": p, "factor": f} for p, f in ((others, 1.0), (scales, factor)) if p]
        made[name] = kinds[training.optimizer](groups, **options)
    return made


def set_lr(optimizers: Mapping[str, Optimizer], lr: float) -> None:
    """Set the learning rate of the next step, in each group times its factor."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = lr * group["factor"]


@dataclass
class Guard:
    """Remembers, on the device, whether a number was not finite; from then on no step changes a weight.

    Args:
        device: where the flags live.
        names: the numbers watched, in order.
        bad: 1 where the number of that name was not finite, at the first step where one was not.
        step: that step, or -1.
        left_out: steps of this epoch that were left out because a gradient was too large.
    """

    device: torch.device
    names: tuple[str, ...] = ()
    bad: Tensor | None = None
    step: Tensor = field(default_factory=lambda: torch.tensor(-1.0))
    left_out: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.left_out = torch.zeros((), dtype=torch.long, device=self.device)

    def watch(self, values: Mapping[str, Tensor], step: Tensor) -> Tensor:
        """Check `values` and return 1.0 if this step must not be taken, as a tensor on the device."""
        flags = ~torch.isfinite(torch.stack([v.detach().float().sum() for v in values.values()]))
        if self.bad is None:
            self.names = tuple(values)
            self.bad, self.step = torch.zeros_like(flags), torch.full((), -1.0, device=self.device)
        first = flags.any() & (self.step < 0)
        self.bad = torch.where(first, flags, self.bad)
        self.step = torch.where(first, step.to(self.step), self.step)
        return (self.step >= 0).float()

    def failed(self) -> tuple[str, int] | None:
        """Return the names of the numbers that were not finite and the step, or None; waits for the device."""
        if self.bad is None or float(self.step) < 0:
            return None
        return " and ".join(n for n, flag in zip(self.names, self.bad.tolist(), strict=True) if flag), int(self.step)


@dataclass(frozen=True)
class Cast:
    """Who takes part in a step; found once for many steps, since it takes as long as a small step does.

    Args:
        players: the parameters that each player moves, by name.
        stateful: the modules whose state changes after a step.
    """

    players: Mapping[str, list[nn.Parameter]]
    stateful: tuple[Stateful, ...]

    @classmethod
    def of(cls, objective: Objective, model: VAE) -> "Cast":
        """Find them in an objective and a model."""
        stateful = (m for m in (*model.modules(), *objective.modules()) if isinstance(m, Stateful))
        return cls(objective.players(model), tuple(stateful))


class Pieces:
    """Into how many rows at a time a batch is cut, so that a step fits into memory; the gradient stays the batch's.

    Args:
        rows: of a piece at most; None for whole batches.
        divides: False if the objective needs all rows at once.
    """

    def __init__(self, rows: int | None = None, *, divides: bool = True) -> None:
        self.rows, self.divides = rows, divides

    def of(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """Yield the pieces of a batch, and each one's share of the rows."""
        count = len(batch.x)
        if self.rows is None or self.rows >= count:
            yield batch, 1.0
            return
        for start in range(0, count, self.rows):
            piece = batch.rows(slice(start, start + self.rows))
            yield piece, len(piece.x) / count

    def halve(self, rows: int) -> None:
        """Cut a batch of so many rows finer than before.

        Raises:
            OutOfResource: if that cannot be.
        """
        now = min(rows, self.rows or rows)
        if not self.divides:
            raise OutOfResource(
                f"the memory does not hold a step on {rows} examples, and the objective needs them together",
                fix="use a smaller --batch-size or a smaller model",
            )
        if now < 2:
            raise OutOfResource("the memory does not hold a step on one example", fix="use a smaller model")
        self.rows = (now + 1) // 2


def update(
    objective: Objective,
    model: VAE,
    optimizers: Mapping[str, Optimizer],
    batch: Batch,
    step: Tensor,
    guard: Guard,
    clip: float | None = None,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    skip_above: float | None = None,
    compute: Compute | None = None,
    cast: Cast | None = None,
    pieces: Pieces | None = None,
    processes: Processes = ALONE,
    counting: int | None = None,
) -> Outcome:
    """Take one step: all backward passes, then all optimiser steps, then `after_step` of every `Stateful` module.

    `inputs=` restricts each backward pass to its player's parameters, so no gradient can leak to another player.
    A player without a loss does not move. If a loss, a term or a gradient is not finite, no weight changes, now or
    later; if the norm of a gradient is above `skip_above`, none changes in this step. `compute` may stand for calling
    the objective, as compiled kernels do; `Stateful` modules need the trace that they do not keep. Passes are made
    within `precision`, and in smaller `pieces` where the memory is full. `batch` may be one process's part of a larger
    one, of whose rows `counting` count (default: all).
    """
    cast = Cast.of(objective, model) if cast is None else cast
    players = cast.players

    def call(piece: Batch) -> Outcome:
        with precision():
            return objective(model, piece, step) if compute is None else compute(objective, model, piece, step)

    outcome, sums = _passes(call, cast, optimizers, batch, Pieces() if pieces is None else pieces)
    watched = watched_numbers(outcome, players, step)
    if processes.size > 1:
        watched, sums = _together(processes, cast, len(batch.x) if counting is None else counting, watched, sums)
    measured = clip is not None or skip_above is not None
    norms = {name: _clip(p, clip) if measured else _sum(p) for name, p in players.items()}
    move(cast, {name: optimizers[name] for name in outcome.losses}, watched, norms, sums, step, guard, skip_above)
    return outcome


def watched_numbers(outcome: Outcome, players: Iterable[str], step: Tensor) -> dict[str, Tensor]:
    """Return the terms and losses of a pass by name; a player that rests keeps its place among them."""
    resting = step.new_zeros(())
    return {**outcome.terms, **{f"loss of {n}": outcome.losses.get(n, resting) for n in players}}


def move(
    cast: Cast,
    optimizers: Mapping[str, Optimizer],
    watched: Mapping[str, Tensor],
    norms: Mapping[str, Tensor],
    sums: Sums,
    step: Tensor,
    guard: Guard,
    skip_above: float | None = None,
) -> None:
    """Take the optimisers' steps and then `after_step` of every `Stateful` module, unless the guard forbids it.

    Args:
        cast: who takes part.
        optimizers: of the players that move.
        watched: terms and losses.
        norms: of each player's gradient, or another number that is finite if the gradient is.
        sums: what stateful modules learn from.
        step: its number.
        guard: looks at all these numbers.
        skip_above: leave this step out if a norm is larger.
    """
    skip = guard.watch({**watched, **{f"gradient of {n}": v for n, v in norms.items()}}, step)
    if skip_above is not None:
        large = torch.stack(list(norms.values())).max() > skip_above
        guard.left_out += large
        skip = torch.maximum(skip, large.float())
    for name in optimizers:
        _step_unless(optimizers[name], skip)
    if cast.stateful and not bool(skip):
        with torch.no_grad():
            for i, module in enumerate(cast.stateful):
                module.after_step({name: value for (of, name), value in sums.items() if of == i})


def _passes(
    call: Callable[[Batch], Outcome],
    cast: Cast,
    optimizers: Mapping[str, Optimizer],
    batch: Batch,
    pieces: Pieces,
) -> tuple[Outcome, Sums]:
    """Add up the gradients of a batch's pieces, smaller ones where the memory is full, and what modules learn."""
    before = states()
    while True:
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        try:
            return joined([_backward(call(piece), piece, share, cast) for piece, share in pieces.of(batch)])
        except (MemoryError, RuntimeError) as error:
            if not memory_is_full(error):
                raise
            pieces.halve(len(batch.x))
        go_back(before)


def _backward(outcome: Outcome, piece: Batch, share: float, cast: Cast) -> tuple[Outcome, Sums, float]:
    """Add the gradients of a piece's losses, times its share of the batch; return what is left of its pass."""
    for i, (name, loss) in enumerate(outcome.losses.items()):
        part = loss if share == 1 else share * loss
        part.backward(inputs=cast.players[name], retain_graph=i + 1 < len(outcome.losses))
    sums = learned_from(outcome, piece, cast)
    return (outcome if share == 1 else without_graph(outcome)), sums, share


def learned_from(outcome: Outcome, piece: Batch, cast: Cast) -> Sums:
    """Return what stateful modules learn from a pass."""
    return outcome.sums if outcome.trace is None else learned(cast.stateful, outcome.trace, piece)


def without_graph(outcome: Outcome) -> Outcome:
    """Return an outcome without trace and graph, since those of a piece are not to outlive it."""
    terms = {name: term.detach() for name, term in outcome.terms.items()}
    return Outcome({name: loss.detach() for name, loss in outcome.losses.items()}, terms, None)


def joined(parts: list[tuple[Outcome, Sums, float]]) -> tuple[Outcome, Sums]:
    """Return what one pass of the whole batch would have given, but for the trace of more than one."""
    first, sums, _ = parts[0]
    if len(parts) == 1:
        return first, sums
    losses = {n: torch.stack([share * o.losses[n] for o, _, share in parts]).sum() for n in first.losses}
    terms = {n: torch.cat([o.terms[n] for o, _, _ in parts]) for n in first.terms}
    added = {key: torch.stack([one[key] for _, one, _ in parts]).sum(0) for key in sums}
    return Outcome(losses, terms, None), added


def _together(
    processes: Processes, cast: Cast, rows: int, watched: Mapping[str, Tensor], sums: Sums
) -> tuple[dict[str, Tensor], Sums]:
    """Average the gradients over the rows of all processes, and add up the numbers, in one exchange."""
    parameters = list({id(p): p for group in cast.players.values() for p in group}.values())
    numbers = [value.detach().float().sum() for value in watched.values()]
    counted = [value.detach() if rows else torch.zeros_like(value) for value in sums.values()]
    added = processes.average(parameters, rows, [*numbers, *counted])
    return dict(zip(watched, added, strict=False)), dict(zip(sums, added[len(numbers) :], strict=True))


def _clip(parameters: list[nn.Parameter], limit: float | None) -> Tensor:
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients) if gradients else parameters[0].new_zeros(())
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def _sum(parameters: list[nn.Parameter]) -> Tensor:
    """Return a number that is finite if the gradients are; their norm takes three times as long."""
    sums = [p.grad.sum() for p in parameters if p.grad is not None]
    return torch.stack(sums).sum() if sums else parameters[0].new_zeros(())


def _step_unless(optimizer: Optimizer, skip: Tensor) -> None:
    if optimizer.defaults.get("fused"):  # fused optimisers leave everything as it is where found_inf is 1
        optimizer.found_inf = skip  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.grad_scale = None  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    elif not bool(skip):
        optimizer.step()
