"""A rate that is held at a capacity, which may grow during training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome, Schedule, at
from ..core.record import recorded
from ..core.types import Batch
from .kernels import check_weights


@recorded
class Capacity(Objective):
    r"""E_q[-log p(x|z)] + gamma sum_i |KL_i - C_i(step)|, KL_i that of group i (Burgess et al. 2018, arXiv 1804.03599).

    They have one group and one C; a tuple gives each group its own (Dupont 2018, arXiv 1804.00104: C_z and C_c). The
    absolute value is taken for each example, as both papers write it; implementations often take it of the batch's
    mean. gamma = 1 and C = 0 is the ELBO. The best weights are those of the lowest loss at the last C, `penalized`.

    Args:
        gamma: weight of the distance.
        capacity: C in nats, a number or a schedule, for all groups together; or a tuple with one for each group.

    Raises:
        UsageError: if gamma or a capacity is negative.

    >>> Capacity(gamma=30.0, capacity=(5.0, 2.0)).capacity
    (5.0, 2.0)
    """

    monitor = "penalized"
    maximize = False

    def __init__(self, gamma: float = 30.0, capacity: float | Schedule | tuple[float | Schedule, ...] = 5.0) -> None:
        super().__init__()
        check_weights(gamma=gamma)
        self.capacities = tuple(capacity) if isinstance(capacity, tuple | list) else (capacity,)
        first, self.last = ([float(at(c, torch.tensor(s))) for c in self.capacities] for s in (0.0, 1e12))
        for value in (*first, *self.last):
            if not 0 <= value < float("inf"):
                raise UsageError(f"a capacity cannot be {value:g}", expected="finite nats, 0 or more")
        self.gamma, self.capacity = gamma, capacity
        self.each = isinstance(capacity, tuple | list)

    @property
    def settled(self) -> int:
        """The step from which no capacity changes any more."""
        return max((c.settled for c in self.capacities if isinstance(c, Schedule)), default=0)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the distortion plus gamma times the distance of the rate from the capacity."""
        trace = model(batch)
        terms = trace.terms()
        rates = [trace.mean(latent.kl) for latent in trace.latents] if self.each else [terms["rate"]]
        if len(rates) != len(self.capacities):
            raise Incompatible(
                f"{len(self.capacities)} capacities cannot be used with {len(rates)} latent groups",
                where="one capacity for each group",
                fix="give one for each group, or a single number for all together",
            )
        away = _distance(rates, [at(c, step) for c in self.capacities])
        terms["from_capacity"] = away
        terms["penalized"] = terms["distortion"] + self.gamma * _distance(rates, self.last)
        return Outcome({"model": batch.mean(terms["distortion"] + self.gamma * away)}, terms, trace)


def _distance(rates: Sequence[Tensor], capacities: Sequence[float | Tensor]) -> Tensor:
    return torch.stack([(r - c).abs() for r, c in zip(rates, capacities, strict=True)]).sum(0)
