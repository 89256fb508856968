"""Gradients of the importance weighted bound without the score of q: doubly reparameterised, and sticking the landing.

One player and two passes with the same z. (i) All parameters frozen, z live: what the bound gains where z moves. (ii) z
detached, parameters live: what log p(x, z) gains at a fixed z. Nothing is said about which parameters belong to q and
which to p, so a prior made of posteriors, or a ladder that both share, gets the right gradient too.
"""

from torch import Tensor
from torch.func import functional_call

from ..core.distribution import Distribution
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from ..core.walk import Drawn, Shape, from_posterior, replay
from .iwae import whole


def independently(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
    """Draw from q, each sample whatever the others are: without the score of q no other draws have the gradient."""
    return from_posterior(i, None if q is None else q.independent(), p, shape)


def drawn_apart(model: VAE, batch: Batch, num_samples: int) -> tuple[dict[int, Tensor], Trace]:
    """Return draws of q with their path for the gradient, and the pass at the same values without it.

    Args:
        model: the model; networks with dropout would not give the same q twice.
        batch: the examples.
        num_samples: K.
    """
    live: dict[int, Tensor] = {}
    if len(model.groups) > 1:  # a group below reads the live z above it, so all are drawn before any is detached
        live.update((i, latent.z) for i, latent in enumerate(model(batch, num_samples, independently).latents))

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        assert q is not None, "a pass with data has a posterior"
        if i not in live:
            live[i], _, _ = independently(i, q, p, shape)
        z = live[i].detach()
        return z, q.log_prob(z), True

    trace = model(batch, num_samples, source)
    return live, trace


class _TwoPasses(Objective):
    monitor = "iw_bound"
    rescores = True
    weighs = True

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__()
        self.num_samples = whole(num_samples)

    def _path_weight(self, share: Tensor) -> Tensor:
        """The weight of d log w_k / d z_k, from the normalised weights `[K, B]`."""
        raise NotImplementedError

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return a loss whose value is minus the bound, and whose gradient is the estimator's."""
        live, trace = drawn_apart(model, batch, self.num_samples)
        frozen = {name: parameter.detach() for name, parameter in model.named_parameters()}
        moved = functional_call(model, frozen, (batch, self.num_samples, replay(live)))
        bound = trace.log_mean_exp(trace.log_w).detach()
        joint = trace.log_px
        for latent in trace.latents:
            joint = joint + latent.log_p
        # each pass has its own shares: they go with its noise, where log p is a draw itself (dequantisation)
        gain = (self._path_weight(_shares(moved)) * moved.log_w + _shares(trace) * joint).sum(0)
        loss = -batch.mean(bound + gain - gain.detach())
        return Outcome({"model": loss}, {**trace.terms(), "iw_bound": bound}, trace)


def _shares(trace: Trace) -> Tensor:
    """Return the normalised weights `[K, B]`, without their gradient."""
    return (trace.log_share + trace.log_w).detach().softmax(0)


@recorded
class DReG(_TwoPasses):
    r"""The bound of IWAE, by the doubly reparameterised gradient: the same mean, less noise in q's parameters.

    With v_k = w_k / sum_j w_j, d/dphi L_K = E[sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)] (Tucker et al. 2019,
    arXiv 1810.04152, eq. 8), plus E[sum_k v_k d/dtheta log p(x, z_k)] for every parameter that p(x, z) reads. For
    q the signal-to-noise ratio grows with K once K is large, where that of IWAE falls.

    Args:
        num_samples: K.

    Raises:
        UsageError: if K < 1.

    >>> DReG(num_samples=5).monitor
    'iw_bound'
    """

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__(num_samples)

    def _path_weight(self, share: Tensor) -> Tensor:
        return share.square()


@recorded
class STL(_TwoPasses):
    r"""Sticking the landing: the gradient of the ELBO through z alone, without the score of q.

    Roeder et al. 2017, arXiv 1703.09194: d log w / d z d z / d phi, whose noise vanishes where q is the posterior.
    It is exact for K = 1. For K > 1 it weighs these by v_k = w_k / sum_j w_j, which is biased for the bound of IWAE
    (Tucker et al. 2019, arXiv 1810.04152); `DReG` is the estimator that is not.

    Args:
        num_samples: K.

    Raises:
        UsageError: if K < 1.

    >>> STL().num_samples
    1
    """

    def _path_weight(self, share: Tensor) -> Tensor:
        return share
