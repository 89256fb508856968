"""DIP: the covariance of the codes is drawn towards the identity."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from .kernels import check_weights, only_latent, shares


@recorded
class DIP(Objective):
    r"""-ELBO + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2 (Kumar et al. 2018, arXiv 1711.00848).

    kind "i": C = Cov_x[mu(x)], the covariance of posterior means; kind "ii": C = Cov_x[mu(x)] +
    E_x[diag sigma^2(x)], that of z. C is the batch's, divided by its size, so examples influence each
    other; its squares are biased upwards by O(1/B). Both weights 0 give the ELBO. Locatello et al. 2019, arXiv
    1811.12359, take lambda_d = 10 lambda_od for kind "i" and lambda_d = lambda_od for "ii".

    Args:
        kind: "i" or "ii".
        lambda_od: weight of the squares off the diagonal.
        lambda_d: weight of the diagonal's squared distances from 1.

    Raises:
        UsageError: if there is no such kind, or a weight is negative.

    >>> DIP("i", lambda_d=100.0).lambda_d
    100.0
    """

    couples_batch = True
    factorises = True
    monitor = "penalized"
    maximize = False

    def __init__(self, kind: Literal["i", "ii"] = "ii", lambda_od: float = 10.0, lambda_d: float = 10.0) -> None:
        super().__init__()
        if kind not in ("i", "ii"):
            raise UsageError(f"there is no DIP-VAE {kind!r}", expected="i or ii")
        check_weights(lambda_od=lambda_od, lambda_d=lambda_d)
        self.kind, self.lambda_od, self.lambda_d = kind, lambda_od, lambda_d

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the negative ELBO plus both squares, which the term `dip` says."""
        trace = model(batch)
        terms = trace.terms()
        covariance = self.covariance(trace, batch)
        diagonal = covariance.diagonal()
        off = covariance - torch.diag(diagonal)
        dip = self.lambda_od * off.square().sum() + self.lambda_d * (diagonal - 1).square().sum()
        terms["dip"] = dip.expand_as(terms["elbo"])
        terms["penalized"] = terms["dip"] - terms["elbo"]
        return Outcome({"model": dip - batch.mean(terms["elbo"])}, terms, trace)

    def covariance(self, trace: Trace, batch: Batch) -> Float[Tensor, "D D"]:
        """Return the covariance C of the codes of a batch."""
        q = only_latent(trace, "DIP").q
        assert q is not None, "a trace of data has a posterior"
        share, mean, variance = shares(batch)[:, None], q.mean.flatten(1), q.variance.flatten(1)
        centred = mean - (share * mean).sum(0)
        with torch.autocast(centred.device.type, enabled=False):
            covariance = (share * centred).mT @ centred
        return covariance + torch.diag((share * variance).sum(0)) if self.kind == "ii" else covariance
