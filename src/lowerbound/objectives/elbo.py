"""The evidence lower bound, with K samples and a weight on the rate."""

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome, Schedule, at
from ..core.record import recorded
from ..core.types import Batch


@recorded
class ELBO(Objective):
    r"""ELBO = E_q[log p(x|z)] - beta KL(q(z|x) || p(z)), with K samples of q for each example.

    beta = 1: Kingma & Welling 2014, arXiv 1312.6114, eq. 7 (closed-form KL) or eq. 6 (none registered). The term
    `elbo` is always that of beta = 1.

    Args:
        num_samples: K.
        beta: weight of the rate in nats, a number (Higgins et al. 2017, eq. 4) or a schedule (KL warm-up, Bowman et al.
            2016, sec. 3.1).

    Raises:
        UsageError: if K < 1 or beta < 0.

    >>> ELBO(num_samples=5, beta=4.0).num_samples
    5
    """

    commits = True

    def __init__(self, num_samples: int = 1, beta: float | Schedule = 1.0) -> None:
        super().__init__()
        if not isinstance(num_samples, int) or num_samples < 1:
            raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")
        for value in (at(beta, torch.tensor(0.0)), at(beta, torch.tensor(1e12))):
            if not 0 <= float(value) < float("inf"):
                raise UsageError(f"beta cannot be {float(value):g}", expected="a finite number, 0 or more")
        self.num_samples, self.beta = num_samples, beta

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the loss distortion + beta * rate, and what posteriors cost beside, averaged over the batch."""
        trace = model(batch, self.num_samples)
        terms = trace.terms()
        loss = terms["distortion"] + at(self.beta, step) * terms["rate"]
        penalty = trace.penalty()
        if penalty is not None:
            terms["penalty"], loss = penalty, loss + penalty
        return Outcome({"model": batch.mean(loss)}, terms, trace)
