"""Whether the weights of a training can be divided; imports nothing that does it, which would take a second."""

from collections.abc import Sequence
from typing import Any

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE, Stateful
from ..core.objective import Objective
from ..core.recipe import Training
from .processes import Processes


def check_several(processes: Processes) -> None:
    """Raise UsageError unless there are processes to divide a model among."""
    if processes.size == 1:
        raise UsageError(
            "there is one process, and none to divide the weights with",
            expected="2 or more",
            fix="lowerbound train ... --devices 2 --shard, or start the script by torchrun --nproc-per-node=2 SCRIPT",
        )


def check_shardable(objective: Objective, model: VAE, training: Training, kernels: str) -> None:
    """Raise Incompatible, by name, if a training cannot divide the weights of its model among processes.

    Args:
        objective: whose losses are minimised.
        model: the model.
        training: its options.
        kernels: that were asked for.
    """
    name, players = type(objective).__name__, list(objective.players(model))
    stateful = [m for m in (*model.modules(), *objective.modules()) if isinstance(m, Stateful)]
    reading = [module for module in stateful if list(module.parameters())]
    reasons = (
        (
            len(players) != 1,
            f"{name} has {len(players)} players ({', '.join(players)}), and one backward pass serves one",
        ),
        (objective.rescores, f"{name} passes once more under frozen weights, which are in no process as a whole"),
        (objective.moves, f"{name} moves z along gradients of the model within a pass, which needs its weights whole"),
        (objective.reads_weights, f"{name} reads whole weights"),
        (bool(reading), f"{type(reading[0]).__name__ if reading else ''} reads whole weights after each step"),
        (training.ema is not None, "a moving average of the weights (ema) is not kept of their parts"),
        (kernels == "compiled", "compiled kernels do not put divided weights together"),
    )
    for broken, reason in reasons:
        if broken:
            raise Incompatible(f"the weights are not divided: {reason}", fix="train it without --shard")


def check_unwatched(watchers: Sequence[Any]) -> None:
    """Raise Incompatible if there are functions that look at the model, of which no process has the whole."""
    if watchers:
        raise Incompatible(
            "the weights are not divided: watchers look at a whole model, and no process has one",
            fix="train it without watchers, or without shard=True",
        )
