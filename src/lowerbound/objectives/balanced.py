"""The ELBO with a weight for each level of a ladder while its rate warms up."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE, Stateful
from ..core.objective import Objective, Outcome, Schedule, at
from ..core.record import recorded
from ..core.types import Batch, Trace
from .kernels import check_weights

LEAST = 0.01  # nats that every level counts for beside its KL, so that no weight is 0


@recorded
class Balanced(Stateful, Objective):
    r"""E_q[-log p(x|z)] + beta sum_l gamma_l KL_l while beta < 1, and minus the ELBO from beta = 1 on.

    gamma_l is proportional to (E_x[KL_l] + 0.01) / s_l, with s_l the number of dimensions of group l, and 1 on average:
    a level that is used more than the others pays more (Vahdat & Kautz 2020, "NVAE", arXiv 2007.03898, appendix A,
    which prints a product with s_l where its first author says a quotient is meant:
    https://github.com/NVlabs/NVAE/issues/26). E_x is over the batch of the step before, where theirs is over the same
    one, so rows do not influence each other and parts of a batch add up; in the first step all weights are 1. The term
    `balanced` is the rate with its weights.

    Args:
        groups: number of latent groups.
        beta: weight of the rate, a number or a schedule that ends at 1.

    Raises:
        UsageError: if there is no group or beta is negative.

    >>> Balanced(3).weights.tolist()
    [1.0, 1.0, 1.0]
    """

    weights: Tensor

    def __init__(self, groups: int, beta: float | Schedule = 1.0) -> None:
        super().__init__()
        for number in (0.0, 1e12):
            check_weights(beta=float(at(beta, torch.tensor(number))))
        if not isinstance(groups, int) or groups < 1:
            raise UsageError(f"the number of groups cannot be {groups}", expected="a whole number above 0")
        self.groups, self.beta = groups, beta
        self.register_buffer("weights", torch.ones(groups))

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return one player, the model.

        Raises:
            Incompatible: if it has another number of groups.
        """
        if len(model.groups) != self.groups:
            raise Incompatible(
                f"{self.groups} weights cannot balance {len(model.groups)} latent groups",
                where="weights x groups",
                fix=f"Balanced({len(model.groups)})",
            )
        return super().players(model)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the distortion plus beta times the rate with its weights, averaged over the batch."""
        trace = model(batch)
        terms, beta = trace.terms(), torch.as_tensor(at(self.beta, step))
        weights = torch.where(beta < 1, self.weights, 1.0)
        terms["balanced"] = (weights[:, None] * _rates(trace)).sum(0)
        return Outcome({"model": batch.mean(terms["distortion"] + beta * terms["balanced"])}, terms, trace)

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return the rate of each group, and the number of rows."""
        rates = torch.stack([batch.mean(rate) for rate in _rates(trace).abs()])
        rows = rates.new_full((), len(batch.x))
        sizes = rates.new_tensor([latent.z[0, 0].numel() for latent in trace.latents])
        return {"rates": rows * rates.detach(), "sizes": rows * sizes, "rows": rows}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Set the weights from the rates of this step's batch."""
        each = (sums["rates"] + LEAST * sums["rows"]) / sums["sizes"]
        self.weights.copy_(each / each.mean())


def _rates(trace: Trace) -> Tensor:
    """Return the KL of each group, `[G, B]`."""
    return torch.stack([trace.mean(latent.kl) for latent in trace.latents])
