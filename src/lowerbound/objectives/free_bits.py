"""Free bits: a rate that costs nothing below a floor."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import Incompatible, UsageError
from ..core.kl import kl_divergence
from ..core.model import VAE
from ..core.objective import Objective, Outcome, Schedule, at
from ..core.record import recorded
from ..core.types import Batch, Latent, Trace
from .kernels import check_weights


@recorded
class FreeBits(Objective):
    r"""E_q[-log p(x|z)] + beta sum_j max(floor, E_batch[KL_j]), j the latent groups or their dimensions.

    Kingma et al. 2016, arXiv 1606.04934, eq. 15: the mean over the batch stands inside the maximum, so examples of a
    batch influence each other. floor = 0 is the ELBO: a mean KL is never negative where its closed form is used.

    Args:
        floor: nats that each group or dimension may use for nothing (1 bit is 0.693 nats).
        per: "dimension" or "group".
        num_samples: K.
        beta: weight of what is charged, a number or a schedule that ends at 1 (warm-up: Sonderby et al. 2016,
            arXiv 1602.02282, sec. 2.3).

    Raises:
        UsageError: if the floor or beta is negative, `per` is neither, or K < 1.

    >>> FreeBits(0.25).per
    'dimension'
    """

    couples_batch = True

    def __init__(
        self,
        floor: float = 0.25,
        per: Literal["dimension", "group"] = "dimension",
        num_samples: int = 1,
        beta: float | Schedule = 1.0,
    ) -> None:
        super().__init__()
        check_weights(floor=floor)
        for number in (0.0, 1e12):
            check_weights(beta=float(at(beta, torch.tensor(number))))
        if per not in ("dimension", "group"):
            raise UsageError(f"bits cannot be free per {per!r}", expected="dimension or group")
        if not isinstance(num_samples, int) or num_samples < 1:
            raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")
        self.floor, self.per, self.num_samples, self.beta = floor, per, num_samples, beta
        self.factorises = per == "dimension"

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the distortion plus beta times the charged rate; the term `charged` is that rate before its weight."""
        trace = model(batch, self.num_samples)
        terms = trace.terms()
        weight = 1.0 if batch.weight is None else batch.weight[:, None]
        rates = torch.cat([self._rates(trace, latent) for latent in trace.latents], -1)
        charged = (weight * rates).mean(0).clamp_min(self.floor).sum() if self.floor else batch.mean(terms["rate"])
        terms["charged"] = charged.expand_as(terms["rate"])
        return Outcome({"model": batch.mean(terms["distortion"]) + at(self.beta, step) * charged}, terms, trace)

    def _rates(self, trace: Trace, latent: Latent) -> Float[Tensor, "B J"]:
        rates = latent.kl[..., None] if self.per == "group" else kl_of_dimensions(latent)
        return (trace.log_share.exp()[..., None] * rates).sum(0)


def kl_of_dimensions(latent: Latent) -> Float[Tensor, "K B D"]:
    """Return KL(q_d || p_d) in nats of each dimension: the closed form where z was drawn and one is registered.

    Raises:
        Incompatible: if the dimensions of posterior or prior are not independent.
    """
    assert latent.q is not None, "a trace of data has a posterior"
    q, p = latent.q.elements(), latent.p.elements()
    if q is None or p is None:
        who = "posterior" if q is None else "prior"
        raise Incompatible(
            f"a {who} with dependent dimensions has no KL of each dimension",
            where="dimensions x joint density",
            fix='let bits be free per="group"',
        )
    closed = kl_divergence(q, p) if latent.drawn else None
    each = q.log_prob(latent.z) - p.log_prob(latent.z) if closed is None else closed
    return each.expand(*latent.log_q.shape, *each.shape[each.ndim - latent.z.ndim + 2 :]).flatten(2)
