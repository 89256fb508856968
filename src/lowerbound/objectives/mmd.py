"""Maximum mean discrepancy of codes and prior: InfoVAE and the Wasserstein autoencoder."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import sample_shape
from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch
from .kernels import Kernel, KernelName, check_weights, codes, make_kernel, only_latent, shares


@recorded
class MMD(Objective):
    r"""E_q[-log p(x|z)] + (1 - alpha) KL(q(z|x)||p(z)) + (alpha + weight - 1) MMD^2(q(z), p(z)).

    InfoVAE: Zhao et al. 2019, arXiv 1706.02262, eq. 6, with weight = lambda. alpha = 1 leaves the KL out: the
    Wasserstein autoencoder, Tolstikhin et al. 2018, arXiv 1711.01558, algorithm 2, whose encoder may be a point;
    its cost c(x, y) is the distortion. alpha = 0 and weight = 1 is the ELBO. MMD^2 is the unbiased U-statistic of the
    batch's codes and as many draws of the prior, so it can be negative; a batch of one example has none (0). A prior
    whose draws carry no gradient is moved by the rate alone.

    Args:
        weight: lambda.
        alpha: 1 minus the weight of the rate.
        kernel: "imq", "rbf" or "laplace" (`make_kernel`).
        scales: scales of the kernel, which are averaged.

    Raises:
        UsageError: if alpha > 1, or alpha + weight < 1, which would reward a discrepancy.

    >>> MMD(weight=10.0).needs_density
    False
    """

    couples_batch = True
    monitor = "penalized"
    maximize = False

    def __init__(
        self,
        weight: float = 10.0,
        alpha: float = 1.0,
        kernel: KernelName = "imq",
        scales: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ) -> None:
        super().__init__()
        check_weights(weight=weight)
        if not -float("inf") < alpha <= 1 or alpha + weight < 1:
            raise UsageError(
                f"alpha={alpha} and weight={weight} weigh the rate by {1 - alpha:g} and the MMD by "
                f"{alpha + weight - 1:g}",
                expected="numbers of 0 or more: alpha <= 1 <= alpha + weight",
            )
        self.alpha, self.weight, self.kernel = alpha, weight, make_kernel(kernel, tuple(scales))
        self.needs_density = self.learns_prior = alpha != 1

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the weighted sum; the terms `mmd` (squared, no nats) and `penalized` belong to it."""
        trace = model(batch)
        terms = trace.terms() if model.has_density else {"distortion": -trace.mean(trace.log_px)}
        latent = only_latent(trace, "MMD")
        shape = sample_shape(latent.p, (1, batch.x.shape[0]))
        drawn = latent.p.rsample(shape) if latent.p.has_rsample else latent.p.sample(shape)
        prior = drawn.expand_as(latent.z).flatten(2)
        mmd = unbiased_mmd(codes(latent)[0], prior[0], shares(batch), self.kernel)
        each = terms["distortion"] if self.alpha == 1 else terms["distortion"] + (1 - self.alpha) * terms["rate"]
        penalty = (self.alpha + self.weight - 1) * mmd
        terms["mmd"], terms["penalized"] = mmd.expand_as(each), each + penalty
        return Outcome({"model": batch.mean(each) + penalty}, terms, trace)


def unbiased_mmd(
    one: Float[Tensor, "N D"], other: Float[Tensor, "N D"], share: Float[Tensor, " N"], kernel: Kernel
) -> Float[Tensor, ""]:
    r"""Return the U-statistic of MMD^2 (Gretton et al. 2012, JMLR 13, lemma 6), 0 for a single row.

    sum_{i != j} k(x_i, x_j) / (N (N - 1)) + the same of y - 2 sum_{ij} k(x_i, y_j) / N^2. Where rows of x have
    shares s_i, products s_i s_j divided by their sum over i != j stand for 1 / (N (N - 1)), and s_i / N for 1 / N^2.

    Args:
        one: x, a batch of codes.
        other: y, draws of the prior.
        share: shares of the rows of x, summing to 1.
        kernel: k.

    >>> x, equal = torch.tensor([[0.0], [1.0]]), torch.full((2,), 0.5)
    >>> unbiased_mmd(x, x, equal, make_kernel("imq", (1.0,))).item()  # 2/3 + 2/3 - (1 + 2/3)
    -0.333333...
    """
    count = one.shape[0]
    if count == 1:
        return 0 * (one.sum() + other.sum())
    even = torch.full_like(share, 1 / count)
    within = _apart(kernel(one, one), share) + _apart(kernel(other, other), even)
    return within - 2 * (share[:, None] * kernel(one, other)).sum() / count


def _apart(gram: Tensor, share: Tensor) -> Tensor:
    pairs = (share[:, None] * share) * (1 - torch.eye(len(share), dtype=share.dtype, device=share.device))
    return (pairs * gram).sum() / pairs.sum()
