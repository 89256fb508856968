"""Training on several modalities: weighed likelihoods, and encoders that see only some of them."""

import math
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..core.objective import TRAITS, Objective, Outcome, Schedule, at
from ..core.record import recorded
from ..core.spec import DataSpec
from ..core.types import Batch

Scored: TypeAlias = Literal["seen", "observed"]


def _sum(values: list[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return torch.stack(values).sum(0)


@recorded
class WeighedELBO(Objective):
    r"""E_q[sum_m lambda_m log p(x_m|z)] - beta KL(q(z|x) || p(z)): a loss in which each modality has a weight.

    Wu & Goodman 2018, arXiv 1802.05335, eq. 3. The terms `distortion`, `rate` and `elbo` are those of weights 1; what
    is optimised at beta = 1 is the term `weighed_elbo`, no bound on log p(x) unless all weights are 1.

    Args:
        weights: lambda of each modality, in the order of the data.
        num_samples: K.
        beta: weight of the rate, a number or a schedule.

    Raises:
        UsageError: if a weight is not above 0, K < 1 or beta < 0.

    >>> WeighedELBO((1.0, 78.4)).monitor
    'weighed_elbo'
    """

    monitor = "weighed_elbo"

    def __init__(self, weights: tuple[float, ...], num_samples: int = 1, beta: float | Schedule = 1.0) -> None:
        super().__init__()
        if not weights or not all(0 < w < math.inf for w in weights):
            raise UsageError(f"the weights of modalities cannot be {weights}", expected="finite numbers above 0")
        if not isinstance(num_samples, int) or num_samples < 1:
            raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")
        for value in (at(beta, torch.tensor(0.0)), at(beta, torch.tensor(1e12))):
            if not 0 <= float(value) < math.inf:
                raise UsageError(f"beta cannot be {float(value):g}", expected="a finite number, 0 or more")
        self.weights, self.num_samples, self.beta = tuple(weights), num_samples, beta

    def remarks(self, spec: DataSpec) -> tuple[str, ...]:
        """Say what the loss weighs, if it does."""
        if len(set(self.weights)) == 1 and self.weights[0] == 1:
            return ()
        names = [m.name for m in spec.modalities] or [str(i) for i in range(len(self.weights))]
        each = ", ".join(f"{name} x {weight:.4g}" for name, weight in zip(names, self.weights, strict=True))
        return (f"the loss weighs the nats of the modalities: {each}; elbo, distortion and rate are not weighed",)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the weighed distortion plus beta times the rate, averaged over the batch."""
        trace = model(batch, self.num_samples)
        terms = trace.terms()
        each = trace.px.log_prob_parts(batch.x, batch.mask)
        if len(each) != len(self.weights):
            raise Incompatible(
                f"{len(self.weights)} weights were given for {len(each)} modalities",
                where="weights x modalities",
                expected="one for each",
            )
        weighed = [weight * trace.mean(log_px) for log_px, weight in zip(each, self.weights, strict=True)]
        told = _sum(weighed)
        terms["weighed_elbo"] = told - terms["rate"]
        return Outcome({"model": batch.mean(at(self.beta, step) * terms["rate"] - told)}, terms, trace)


@recorded
class Subsets(Objective):
    r"""Another objective with all modalities, with each alone, and with random sets of them shown to the encoder.

    The loss is the mean over these passes (Wu & Goodman 2018, arXiv 1802.05335, eq. 5, has their sum): a product of
    experts that only ever saw all modalities says nothing of each alone. With `scored="seen"` a pass scores what its
    encoder saw, as there; with "observed" all that is observed, so that it learns to tell the other modalities, too.
    A row that has nothing of a set is shown all that it has. The terms are those of the pass with all modalities, but
    for the mean of what the wrapped objective monitors over all passes.

    Args:
        objective: the objective to wrap.
        sizes: number of values of each modality, in the order of the data.
        alone: True if there is a pass with each modality alone.
        drawn: number of passes in which each row shows a random non-empty set of modalities.
        scored: what a pass scores, "seen" or "observed".

    Raises:
        UsageError: if a number is out of its range.

    >>> from lowerbound.objectives import ELBO
    >>> Subsets(ELBO(), (64, 10)).monitor
    'elbo_of_sets'
    """

    owner: Tensor

    def __init__(
        self,
        objective: Objective,
        sizes: tuple[int, ...],
        *,
        alone: bool = True,
        drawn: int = 1,
        scored: Scored = "seen",
    ) -> None:
        super().__init__()
        if not sizes or any(not isinstance(s, int) or s < 1 for s in sizes):
            raise UsageError(f"the sizes of modalities cannot be {sizes}", expected="whole numbers above 0")
        if not isinstance(drawn, int) or drawn < 0:
            raise UsageError(f"the number of random sets cannot be {drawn}", expected="a whole number, 0 or more")
        if scored not in get_args(Scored):
            raise UsageError(f"what is scored cannot be {scored!r}", expected=", ".join(get_args(Scored)))
        self.objective, self.sizes, self.alone, self.drawn, self.scored = objective, tuple(sizes), alone, drawn, scored
        owner = [m for m, size in enumerate(sizes) for _ in range(size)]
        self.register_buffer("owner", torch.tensor(owner, dtype=torch.long), persistent=False)
        for trait in (*TRAITS, "corrupts"):
            setattr(self, trait, getattr(objective, trait))
        self.monitor = f"{objective.monitor}_of_sets"

    @property
    def settled(self) -> int:
        """The step from which the wrapped objective's schedules no longer change."""
        return self.objective.settled

    def remarks(self, spec: DataSpec) -> tuple[str, ...]:
        """Return what is to be said of the wrapped objective."""
        return self.objective.remarks(spec)

    def players(self, model: VAE) -> dict[str, list[torch.nn.Parameter]]:
        """Return the wrapped objective's players."""
        return self.objective.players(model)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the mean loss of all passes, and terms and trace of the pass with all modalities."""
        whole = self.objective(model, batch, step)
        passes = [whole, *(self.objective(model, self._showing(batch, keep), step) for keep in self._sets(batch))]
        losses = {player: _sum([p.losses[player] for p in passes]) / len(passes) for player in whole.losses}
        watched = _sum([p.terms[self.objective.monitor] for p in passes]) / len(passes)
        return Outcome(losses, {**whole.terms, self.monitor: watched}, whole.trace)

    def _sets(self, batch: Batch) -> list[Tensor]:
        """Return which modalities each row shows in each pass but the first, `[B, M]` bool."""
        count, rows = len(self.sizes), batch.x.shape[0]
        each = torch.eye(count, dtype=torch.bool, device=batch.x.device)
        made = [one.expand(rows, count) for one in each] if self.alone else []
        bits = 2 ** torch.arange(count, device=batch.x.device)
        for _ in range(self.drawn):
            number = 1 + (torch.rand(rows, device=batch.x.device) * (2**count - 1)).long()
            made.append((number[:, None] // bits) % 2 == 1)
        return made

    def _showing(self, batch: Batch, keep: Tensor) -> Batch:
        """Return the batch whose encoder sees the observed cells of these modalities."""
        observed = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        some = torch.stack([part.amax(1) > 0 for part in observed.split(self.sizes, 1)], 1)
        keep = keep & some
        keep = torch.where(keep.any(1, keepdim=True), keep, some)
        cells = keep[:, self.owner].to(observed.dtype) * observed
        return replace(batch, mask=cells) if self.scored == "seen" else replace(batch, seen_mask=cells)
