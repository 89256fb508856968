"""The variational Renyi bound."""

import math

from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch
from .iwae import whole

NEAREST = 1e-3


@recorded
class Renyi(Objective):
    r"""L_alpha = 1/(1 - alpha) log E_q[w^(1 - alpha)], w = p(x, z) / q(z|x), with K samples for the expectation.

    Li & Turner 2016, arXiv 1602.02311, eq. 4, estimated by Monte Carlo (their eq. 8). alpha = 0 is the bound of
    IWAE, alpha = 1 the ELBO. For alpha >= 0 both L_alpha and the mean of its estimate lie below log p(x). For alpha < 0
    L_alpha lies above, and its estimate, whose mean lies below L_alpha, on either side: `renyi_bound` then bounds
    nothing. With K = 1 every alpha gives the ELBO.

    Args:
        alpha: order of the divergence.
        num_samples: K.

    Raises:
        UsageError: if K < 1, or alpha is not finite or nearer to 1 than 0.001 (but not 1): rounding would decide.

    >>> Renyi(alpha=0.5, num_samples=50).monitor
    'renyi_bound'
    """

    monitor = "renyi_bound"
    weighs = True

    def __init__(self, alpha: float = 0.5, num_samples: int = 5) -> None:
        super().__init__()
        if not math.isfinite(alpha) or 0 < abs(1 - alpha) < NEAREST:
            raise UsageError(f"alpha cannot be {alpha}", expected=f"a finite number, 1 or at least {NEAREST} from it")
        self.alpha, self.num_samples = alpha, whole(num_samples)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the bound, averaged over the batch."""
        trace = model(batch, self.num_samples)
        terms, power = trace.terms(), 1 - self.alpha
        bound = trace.log_mean_exp(power * trace.log_w) / power if power else terms["elbo"]
        return Outcome({"model": -batch.mean(bound)}, {**terms, "renyi_bound": bound}, trace)
