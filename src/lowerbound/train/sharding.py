"""A model whose weights are divided among processes (FSDP2): each holds a part of each, of its gradient and moments.

Units that are put together for a pass and taken apart after it are the outermost networks, and one of all the rest:
the parameters of groups, priors, families and of the objective. That one is whole as long as an objective runs, so
objectives may call any method of the model. Optimisers see plain tensors, the parts that lie in this process.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ..core.errors import Incompatible, LowerboundError, OutOfResource, memory_is_full
from ..core.model import VAE, Network, Sums
from ..core.noise import Stream, seeded
from ..core.objective import Objective, Outcome, first_step
from ..core.recipe import Training
from ..core.types import Batch
from .processes import Processes
from .update import Cast, Guard, joined, learned_from, make_optimizers, move, watched_numbers, without_graph

_PROBE = 2  # examples of the pass that shows whether divided weights serve


class _Root(nn.Module):
    """What is passed as a whole; keeps the outcome of its last pass, of which hooks are to see the losses alone."""

    def __init__(self, objective: Objective, model: VAE) -> None:
        super().__init__()
        self.objective, self.model = objective, model
        self.outcome: Outcome | None = None

    def forward(self, batch: Batch, step: Tensor) -> dict[str, Tensor]:
        """Return the losses."""
        self.outcome = self.objective(self.model, batch, step)
        return self.outcome.losses


class Sharded:
    """The training of a model and an objective that are divided among processes; they, and the optimisers, change.

    Args:
        objective: the objective.
        model: the model, whole in each process.
        optimizers: one for each player, with their state, whole in each process.
        probe: a few examples, the same in all processes, for a pass that shows whether divided weights serve.
        processes: among which.

    Raises:
        Incompatible: if a part reads weights that are not there.
        ProcessLost: here and in all methods, if another process does not answer.
    """

    def __init__(
        self,
        objective: Objective,
        model: VAE,
        optimizers: Mapping[str, Optimizer],
        probe: Batch,
        processes: Processes,
    ) -> None:
        self.processes, self.optimizers = processes, optimizers
        self.root = _Root(objective, model)
        names = {id(parameter): name for name, parameter in self.root.named_parameters()}
        self._try_out(probe)
        self.leaves = {name: _leaf(parameter) for name, parameter in self.root.named_parameters()}
        players = {player: self._take_over(optimizer, names) for player, optimizer in optimizers.items()}
        self.cast = Cast(players, Cast.of(objective, model).stateful)

    def _try_out(self, probe: Batch) -> None:
        """Divide the weights, and pass a few rows through them."""
        name, step = type(self.root.objective).__name__, first_step().to(probe.x.device)
        try:
            with self.processes.answering(), seeded(Stream.TRAINING, 0):
                _divide(self.root, init_device_mesh(self.processes.device.type, (self.processes.size,)))
                losses = self(probe.rows(slice(0, _PROBE)), step).losses
                torch.stack(list(losses.values())).sum().backward()
        except LowerboundError:
            raise
        except Exception as error:  # torch, or a part, says in many ways that weights are not there
            if memory_is_full(error):
                raise _full() from error
            raise _not_divided(name, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        if any(isinstance(loss, DTensor) for loss in losses.values()):
            raise _not_divided(name, "a loss reads weights outside of the networks' own passes")
        self.root.zero_grad(set_to_none=True)

    def _take_over(self, optimizer: Optimizer, names: Mapping[int, str]) -> list[nn.Parameter]:
        """Let an optimiser of whole parameters move the parts that lie here; returns these."""
        whole = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state = {parameter: optimizer.state.pop(parameter) for parameter in whole if parameter in optimizer.state}
        for group in optimizer.param_groups:
            group["params"] = [self.leaves[names[id(parameter)]] for parameter in group["params"]]
        likes = dict(self.root.named_parameters())
        for parameter, values in state.items():
            name = names[id(parameter)]
            optimizer.state[self.leaves[name]] = {
                key: _local(self._part(value, likes[name])) if _divides(value) else value
                for key, value in values.items()
            }
        return [leaf for group in optimizer.param_groups for leaf in group["params"]]

    def __call__(self, batch: Batch, step: Tensor) -> Outcome:
        """Return what the objective makes of a batch; all processes must call this, and equally often."""
        with self.processes.answering(), warnings.catch_warnings():
            # it warns of views, which nothing here writes into
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
            self.root(batch, step)
        outcome, self.root.outcome = self.root.outcome, None
        assert outcome is not None, "a pass leaves an outcome"
        return outcome

    def update(
        self,
        batch: Batch,
        step: Tensor,
        guard: Guard,
        part: tuple[int, int],
        micro_batch: int | None = None,
        clip: float | None = None,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
        skip_above: float | None = None,
    ) -> Outcome:
        """Take one step, as `update.update` does; all processes make the same number of passes.

        Args:
            batch: this process's rows.
            step: number of the step.
            guard: looks at all numbers.
            part: how many of the rows count, and how many rows all processes have.
            micro_batch: rows of a pass at most.
            clip: the largest norm of the gradient.
            precision: within which each pass is made.
            skip_above: leave the step out if the gradient's norm is larger.

        Raises:
            OutOfResource: if the memory does not hold a pass; pieces are not cut finer, as all would have to.
        """
        counting, total = part
        self.root.zero_grad(set_to_none=True)
        parts: list[tuple[Outcome, Sums, float]] = []
        try:
            for piece, counts in self._pieces(batch, counting, total, micro_batch):
                with precision():
                    outcome = self(piece, step)
                sums = learned_from(outcome, piece, self.cast)
                if not counts:
                    sums = {key: torch.zeros_like(value) for key, value in sums.items()}
                with self.processes.answering():
                    (counts / total * torch.stack(list(outcome.losses.values())).sum()).backward()
                if counts or not parts:
                    parts.append((without_graph(outcome), sums, len(piece.x) / len(batch.x)))
        except (MemoryError, RuntimeError) as error:
            if not memory_is_full(error):
                raise
            raise _full() from error
        outcome, sums = joined(parts)
        measured = clip is not None or skip_above is not None
        watched, sums, norm = self._together(watched_numbers(outcome, self.cast.players, step), sums, measured=measured)
        (player,) = self.cast.players
        if clip is not None:
            nn.utils.clip_grads_with_norm_(self.cast.players[player], clip, norm)
        move(self.cast, self.optimizers, watched, {player: norm}, sums, step, guard, skip_above)
        return outcome

    def _pieces(self, batch: Batch, counting: int, total: int, micro_batch: int | None) -> Iterator[tuple[Batch, int]]:
        """Yield as many pieces in each process, and how many rows of each count."""
        most = math.ceil(total / self.processes.size)
        rows = most if micro_batch is None else min(most, micro_batch)
        for start in range(0, most, rows):
            if start < counting:
                piece = batch.rows(slice(start, start + rows))
                yield piece, len(piece.x)
            else:
                yield batch.rows(slice(0, 1)), 0

    def _together(
        self, watched: Mapping[str, Tensor], sums: Sums, *, measured: bool
    ) -> tuple[dict[str, Tensor], Sums, Tensor]:
        """Hand gradients to the optimisers' tensors, and add up all numbers in one exchange; the last one is the norm.

        Where it is not to be `measured`, it is another number that is finite if the gradient is.
        """
        leaves = [leaf for group in self.cast.players.values() for leaf in group]
        single = [leaf for leaf in leaves if not leaf.ndim]
        for name, parameter in self.root.named_parameters():
            gradient = parameter.grad
            self.leaves[name].grad = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        here = [leaf.grad.double() for leaf in leaves if leaf.ndim and leaf.grad is not None]
        size = torch.stack([(g.square() if measured else g).sum() for g in here] or [torch.zeros(()).double()]).sum()
        numbers = [value.detach().double().sum() for value in watched.values()]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in single]
        added = self.processes.total([*numbers, *sums.values(), *gradients, size])
        size, first = added[-1], len(numbers) + len(sums)
        for leaf, gradient in zip(single, added[first:-1], strict=True):
            leaf.grad = gradient.to(leaf)
            size = size + (gradient.square() if measured else gradient)
        learned_from = {key: added[len(numbers) + i].to(value) for i, (key, value) in enumerate(sums.items())}
        return dict(zip(watched, added, strict=False)), learned_from, (size.sqrt() if measured else size).float()

    def divided(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this process's parts of weights of the model, by name, from whole ones."""
        likes = self.root.model.state_dict()
        return {name: self._part(whole, likes[name]) for name, whole in weights.items()}

    def _part(self, whole: Tensor, like: Tensor) -> Tensor:
        whole = whole.to(self.processes.device)
        if not isinstance(like, DTensor):
            return whole
        part = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
        return _distributed(part.to_local().clone(), like)

    def whole(self, weights: Mapping[str, Tensor], *, everywhere: bool = False) -> dict[str, Tensor]:
        """Return whole tensors on the CPU, from the parts of all processes, which all must call this.

        Args:
            weights: this process's parts.
            everywhere: False keeps them in the first process alone; others get nothing.
        """
        kept = everywhere or self.processes.first
        found = {}
        for name, value in weights.items():
            with self.processes.answering():
                full = value.full_tensor() if isinstance(value, DTensor) else value
            if kept:
                found[name] = full.detach().cpu()
        return found

    def gathered(
        self, build: Callable[[], tuple[VAE, Objective]], training: Training
    ) -> tuple[VAE, Objective, dict[str, Optimizer]] | None:
        """Return model, objective and optimisers as a whole, in the first process; all must call this.

        Args:
            build: makes model and objective anew.
            training: options of the optimisers.
        """
        built = build() if self.processes.first else None
        for i, module in enumerate((self.root.model, self.root.objective)):
            state = self.whole(module.state_dict())
            if built is not None:
                built[i].load_state_dict(state)
        moments = {name: self._whole_state(optimizer) for name, optimizer in self.optimizers.items()}
        if built is None:
            return None
        model, objective = built
        optimizers = make_optimizers(objective.players(model), training)
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(moments[name])
        return model, objective, optimizers

    def _whole_state(self, optimizer: Optimizer) -> dict[str, Any]:
        described = optimizer.state_dict()
        names = {id(leaf): name for name, leaf in self.leaves.items()}
        leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
        likes = dict(self.root.named_parameters())
        for index, values in described["state"].items():
            like = likes[names[id(leaves[index])]]
            parts = {k: _distributed(v, like) for k, v in values.items() if _divides(v) and isinstance(like, DTensor)}
            described["state"][index] = {**values, **self.whole(parts)}
        return described


def _networks(module: nn.Module) -> list[nn.Module]:
    """Return the outermost networks that have weights, each once."""
    if isinstance(module, Network):
        return [module] if any(True for _ in module.parameters()) else []
    found = [network for child in module.children() for network in _networks(child)]
    return list({id(network): network for network in found}.values())


def _divide(root: _Root, mesh: DeviceMesh) -> None:
    """Leave each process its part of the weights; single numbers stay whole, as they cannot be divided."""
    single = {parameter for parameter in root.parameters() if not parameter.ndim}
    for parameter in single:
        parameter.data = parameter.data.to(mesh.device_type)
    for unit in (*_networks(root), root):
        divided = cast(FSDPModule, fully_shard(unit, mesh=mesh, reshard_after_forward=True, ignored_params=single))
        # losses are scaled by rows, so gradients are added up; and a weight may be reached in one process alone
        divided.set_force_sum_reduction_for_comms(True)
        divided.set_gradient_divide_factor(1.0)
        divided.set_reduce_scatter_unused_params(True)


def _leaf(parameter: nn.Parameter) -> nn.Parameter:
    """Return what lies in this process of a parameter, in the same memory."""
    if not isinstance(parameter, DTensor):
        return parameter
    return nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)


def _divides(value: Any) -> bool:
    """Tell whether an entry of an optimiser's state is shaped as its parameter, and no count."""
    return torch.is_tensor(value) and value.ndim > 0


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _distributed(part: Tensor, like: DTensor) -> DTensor:
    """Return a part of a tensor that is divided as `like` is."""
    return DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def _full() -> OutOfResource:
    return OutOfResource(
        "the memory does not hold a pass, and where weights are divided, batches are not cut finer by themselves",
        fix="use --micro-batch, a smaller --batch-size or more processes",
    )


def _not_divided(name: str, why: str) -> Incompatible:
    return Incompatible(
        f"the weights are not divided: {name}, or a part of the model, needs some of them whole ({why})",
        fix="train it without --shard",
    )
