"""Between the ELBO and the importance weighted bound: averages of bounds, and one bound for each network."""

from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome, inference_parameters
from ..core.record import recorded
from ..core.types import Batch, Trace
from .iwae import whole


def mean_of_bounds(trace: Trace, num_outer: int) -> Tensor:
    """Return 1/M sum_m log 1/K sum_k w_mk, `[B]`, of a trace of M K samples; each set counts by its share.

    Args:
        trace: the pass, with a number of samples that M divides.
        num_outer: M.
    """
    log_share = trace.log_share.unflatten(0, (num_outer, -1))
    of_set = log_share.logsumexp(1)
    inner = (log_share + trace.log_w.unflatten(0, (num_outer, -1))).logsumexp(1) - of_set
    return (of_set.exp() * inner).sum(0)


class _Nested(Objective):
    weighs = True

    def __init__(self, num_outer: int = 3, num_inner: int = 5) -> None:
        super().__init__()
        self.num_outer = whole(num_outer, "number of estimates (num_outer)")
        self.num_inner = whole(num_inner, "number of samples in each (num_inner)")

    def _bounds(self, model: VAE, batch: Batch) -> tuple[Trace, dict[str, Tensor]]:
        trace = model(batch, self.num_outer * self.num_inner)
        return trace, {**trace.terms(), "miwae_bound": mean_of_bounds(trace, self.num_outer)}


@recorded
class MIWAE(_Nested):
    r"""E[1/M sum_m log 1/K sum_k w_mk]: the mean of M importance weighted bounds of K samples each.

    Rainforth et al. 2018, arXiv 1802.04537 (not the MIWAE of missing data). The same bound as IWAE with K
    samples, estimated M times: its gradient for q has a signal-to-noise ratio sqrt(M) larger.

    Args:
        num_outer: M.
        num_inner: K; with 1 this is the ELBO with M samples.

    Raises:
        UsageError: if M or K is below 1.

    >>> MIWAE(num_outer=8, num_inner=8).monitor
    'miwae_bound'
    """

    monitor = "miwae_bound"

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the mean of the bounds, averaged over the batch."""
        trace, terms = self._bounds(model, batch)
        return Outcome({"model": -batch.mean(terms["miwae_bound"])}, terms, trace)


@recorded
class CIWAE(Objective):
    r"""mix ELBO + (1 - mix) L_K, of the same K samples.

    Rainforth et al. 2018, arXiv 1802.04537 (their beta is `mix`). The ELBO in it is the mean of log w_k.

    Args:
        num_samples: K.
        mix: weight of the ELBO, from 0 (IWAE) to 1 (ELBO).

    Raises:
        UsageError: if K < 1, or mix lies outside [0, 1].

    >>> CIWAE(num_samples=64, mix=0.05).monitor
    'ciwae_bound'
    """

    monitor = "ciwae_bound"
    weighs = True

    def __init__(self, num_samples: int = 5, mix: float = 0.5) -> None:
        super().__init__()
        if not 0 <= mix <= 1:
            raise UsageError(f"the weight of the ELBO (mix) cannot be {mix}", expected="a number from 0 to 1")
        self.num_samples, self.mix = whole(num_samples), mix

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the combination, averaged over the batch."""
        trace = model(batch, self.num_samples)
        bound = self.mix * trace.mean(trace.log_w) + (1 - self.mix) * trace.log_mean_exp(trace.log_w)
        return Outcome({"model": -batch.mean(bound)}, {**trace.terms(), "ciwae_bound": bound}, trace)


@recorded
class PIWAE(_Nested):
    r"""Two players on the same M K samples: q ascends `MIWAE(M, K)`, p ascends the IWAE bound of all M K.

    Rainforth et al. 2018, arXiv 1802.04537. More samples in one logarithm make the bound tighter, which serves
    p, and the signal in q's gradient smaller; the split gives each the bound that serves it. The best weights are those
    of p's bound, `iw_bound`.

    Args:
        num_outer: M.
        num_inner: K.

    Raises:
        UsageError: if M or K is below 1.

    >>> PIWAE(num_outer=8, num_inner=8).monitor
    'iw_bound'
    """

    monitor = "iw_bound"
    parts_players = True

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of q (`inference`) and all others (`generative`)."""
        inference = inference_parameters(model)
        own = {id(p) for p in inference}
        return {"inference": inference, "generative": [p for p in model.parameters() if id(p) not in own]}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus each player's bound, averaged over the batch."""
        trace, terms = self._bounds(model, batch)
        terms["iw_bound"] = trace.log_mean_exp(trace.log_w)
        losses = {"inference": -batch.mean(terms["miwae_bound"]), "generative": -batch.mean(terms["iw_bound"])}
        return Outcome(losses, terms, trace)
