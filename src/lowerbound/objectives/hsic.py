"""HSIC: codes that are independent of a label, or whose dimensions are independent of each other."""

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.errors import ShapeError, UsageError
from ..core.model import NEEDS_Y, VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from .kernels import check_weights, codes, make_kernel, only_latent, shares


@recorded
class HSIC(Objective):
    r"""-ELBO + weight dHSIC, the Hilbert-Schmidt independence criterion (Lopez et al. 2018, arXiv 1805.08672).

    Between "labels": of z and the one-hot y, whose kernel is 1 for equal labels and 0 otherwise. Between "dimensions":
    of all dimensions of z together, joint against product of marginals. Codes have a Gaussian kernel,
    exp(-|z - z'|^2 / (2 D scale)). The estimate is the V-statistic of the batch: 0 or more, biased upwards by O(1/B).
    It is no number of nats; weight = 0 is the ELBO.

    Args:
        weight: weight of dHSIC, which lies between 0 and 1.
        between: "labels" or "dimensions".
        scale: squared width of the kernel of z, in units of D, the number of dimensions of z.

    Raises:
        UsageError: if the weight is negative, the scale not positive, or `between` is neither.

    >>> HSIC(between="dimensions").needs_labels
    False
    """

    couples_batch = True
    monitor = "penalized"
    maximize = False

    def __init__(
        self, weight: float = 100.0, between: Literal["labels", "dimensions"] = "labels", scale: float = 1.0
    ) -> None:
        super().__init__()
        check_weights(weight=weight)
        if between not in ("labels", "dimensions"):
            raise UsageError(f"there is no independence between {between!r}", expected="labels or dimensions")
        self.weight, self.between, self.kernel = weight, between, make_kernel("rbf", (scale,))
        self.needs_labels = between == "labels"

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the negative ELBO plus the weighted dHSIC, which the term `hsic` says."""
        trace = model(batch)
        terms = trace.terms()
        hsic = d_hsic(self._grams(trace, batch), shares(batch))
        terms["hsic"] = hsic.expand_as(terms["elbo"])
        terms["penalized"] = self.weight * hsic - terms["elbo"]
        return Outcome({"model": self.weight * hsic - batch.mean(terms["elbo"])}, terms, trace)

    def _grams(self, trace: Trace, batch: Batch) -> Float[Tensor, "V B B"]:
        z = codes(only_latent(trace, "HSIC"))[0]
        if self.between == "dimensions":
            return self.kernel(z.mT[..., None], z.mT[..., None])
        if batch.y is None:
            raise ShapeError("HSIC was given no labels y", fix=NEEDS_Y)
        labels = F.one_hot(batch.y.argmax(-1), batch.y.shape[-1]).to(z)
        return torch.stack([self.kernel(z, z), labels @ labels.mT])


def d_hsic(grams: Float[Tensor, "V N N"], share: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    r"""Return the V-statistic of dHSIC of V variables (Pfister et al. 2018, arXiv 1603.00285).

    E_ij[prod_v k_ij^v] + prod_v E_ij[k_ij^v] - 2 E_i[prod_v E_j[k_ij^v]]; for two variables tr(K H L H) / N^2.

    Args:
        grams: the kernel's values of each variable.
        share: the rows' shares, summing to 1.

    >>> grams = torch.eye(2).expand(2, 2, 2)  # two equal variables of two values
    >>> d_hsic(grams, torch.full((2,), 0.5)).item()  # 1/2 + 1/4 - 2/4
    0.25
    """
    with torch.autocast(grams.device.type, enabled=False):  # a small difference of sums near one
        rows = grams @ share  # [V, N]
        joint = share @ _product(grams) @ share
        return joint + _product(rows @ share) - 2 * share @ _product(rows)


def _product(values: Tensor) -> Tensor:
    return reduce(torch.mul, values.unbind(0))  # torch.prod looks for zeros in its gradient, which breaks a graph
