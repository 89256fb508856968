"""The importance weighted bound."""

from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch


def whole(value: int, name: str = "number of samples") -> int:
    """Return `value` if it is a whole number above 0.

    Args:
        value: the number.
        name: what it counts, for the message.

    Raises:
        UsageError: if it is not.

    >>> whole(5)
    5
    """
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"the {name} cannot be {value}", expected="a whole number above 0")
    return value


@recorded
class IWAE(Objective):
    r"""L_K = E[log 1/K sum_k w_k], w_k = p(x, z_k) / q(z_k|x), with K samples of q for each example.

    Burda et al. 2016, arXiv 1509.00519, eq. 8. ELBO = L_1 <= L_2 <= ... <= log p(x). A closed-form KL has no place
    inside the weights, so `iw_bound` of K = 1 is the ELBO by sampling, and the term `elbo` has the closed form.

    Args:
        num_samples: K.

    Raises:
        UsageError: if K < 1.

    >>> IWAE(num_samples=50).monitor
    'iw_bound'
    """

    monitor = "iw_bound"
    weighs = True

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        self.num_samples = whole(num_samples)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the bound, averaged over the batch."""
        trace = model(batch, self.num_samples)
        bound = trace.log_mean_exp(trace.log_w)
        return Outcome({"model": -batch.mean(bound)}, {**trace.terms(), "iw_bound": bound}, trace)
