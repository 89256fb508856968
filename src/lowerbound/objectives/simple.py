"""Two squares in place of the KL."""

from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch


@recorded
class SimpleRegularizer(Objective):
    r"""E_q[-log p(x|z)] + sum_d [a mu_d^2 + b (log sigma_d^2)^2]: pulls q towards N(0, I) without a divergence.

    Near N(0, I) the KL is mu^2/2 + (log sigma^2)^2/4 + O((log sigma^2)^3), so a = 1/2, b = 1/4 agree with it to
    second order; far away the square overcharges small variances. Not a bound: the term `elbo` is reported, and
    the best weights are those of the lowest loss (`penalized`).

    Args:
        a: weight of mu^2.
        b: weight of (log sigma^2)^2.

    Raises:
        UsageError: if a weight is negative.

    >>> SimpleRegularizer().a
    0.5
    """

    monitor = "penalized"
    learns_prior = False
    maximize = False

    def __init__(self, a: float = 0.5, b: float = 0.25) -> None:
        super().__init__()
        if not (0 <= a < float("inf") and 0 <= b < float("inf")):
            raise UsageError(f"the weights cannot be a={a}, b={b}", expected="finite numbers, 0 or more")
        self.a, self.b = a, b

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return distortion plus the two squares, averaged over the batch."""
        trace = model(batch)
        terms = trace.terms()
        penalty = sum(self._penalty(latent.q) for latent in trace.latents)
        terms["penalized"] = terms["distortion"] + penalty
        return Outcome({"model": batch.mean(terms["penalized"])}, terms, trace)

    def _penalty(self, q: Distribution | None) -> Tensor:
        assert q is not None, "a trace of data has a posterior"
        return (self.a * q.mean.square() + self.b * q.variance.log().square()).flatten(1).sum(1)
