"""beta-TCVAE: the rate split into mutual information, total correlation and the rates of single dimensions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE, spec_of
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Latent
from .kernels import check_weights, only_latent


@recorded
class TotalCorrelation(Objective):
    r"""E_q[-log p(x|z)] + alpha I(z; n) + beta TC(z) + gamma dim-KL (Chen et al. 2018, arXiv 1802.04942, eq. 4).

    I = E[log q(z|x) - log q(z)], TC = E[log q(z) - sum_d log q(z_d)], dim-KL = E[sum_d log q(z_d) - log p(z)], under
    the aggregate posterior q(z) = 1/N sum_n q(z|x_n) of the N training examples. Their sum telescopes to the rate,
    so alpha = beta = gamma = 1 is the ELBO. log q(z) and log q(z_d) are estimated from the batch by `stratified`
    (appendix C.2): a log of an unbiased estimate, so the three terms `mi_estimate`, `tc_estimate` and
    `dim_kl_estimate` are biased, and I as well as TC strongly where codes hardly overlap. N is the `size` of the
    model's spec.

    Args:
        alpha: weight of the mutual information.
        beta: weight of the total correlation.
        gamma: weight of the rates of single dimensions.
        num_samples: K.

    Raises:
        UsageError: if a weight is negative or K < 1.

    >>> TotalCorrelation(beta=4.0).gamma
    1.0
    """

    couples_batch = True
    factorises = True
    monitor = "penalized"
    maximize = False

    def __init__(self, alpha: float = 1.0, beta: float = 6.0, gamma: float = 1.0, num_samples: int = 1) -> None:
        super().__init__()
        check_weights(alpha=alpha, beta=beta, gamma=gamma)
        if not isinstance(num_samples, int) or num_samples < 1:
            raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")
        self.alpha, self.beta, self.gamma, self.num_samples = alpha, beta, gamma, num_samples

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the distortion plus the three weighted parts of the rate; `penalized` is that sum."""
        trace = model(batch, self.num_samples)
        terms, latent = trace.terms(), only_latent(trace, "TotalCorrelation")
        joint, marginals = log_aggregate(latent, stratified(batch, spec_of(model).size))
        mi, tc = trace.mean(latent.log_q - joint), trace.mean(joint - marginals)
        dim_kl = trace.mean(marginals - latent.log_p)
        penalized = terms["distortion"] + self.alpha * mi + self.beta * tc + self.gamma * dim_kl
        terms |= {"mi_estimate": mi, "tc_estimate": tc, "dim_kl_estimate": dim_kl, "penalized": penalized}
        return Outcome({"model": batch.mean(penalized)}, terms, trace)


def stratified(batch: Batch, size: int) -> Float[Tensor, "B B"]:
    r"""Return the logs of weights W_ij with which sum_j W_ij q(z_i|x_j) estimates q(z_i) without bias.

    W_ii = 1/N, as z_i came from x_i, and W_ij = (N - 1) / (N (B - 1)): the other B - 1 stand for the other N - 1
    (Chen et al. 2018, arXiv 1802.04942, appendix C.2). The paper gives one of the others another weight than the
    rest; these weights are the mean over which one it is: the same expectation, a smaller variance, and at B = N
    the aggregate itself. Row weights multiply columns.

    Args:
        batch: the B examples, drawn without replacement.
        size: N.

    >>> stratified(Batch(torch.zeros(2, 1)), 4).exp()
    tensor([[0.2500, 0.7500],
            [0.7500, 0.2500]])
    """
    rows = batch.x.shape[0]
    own = torch.eye(rows, dtype=torch.bool, device=batch.x.device)
    other = math.log((size - 1) / (size * (rows - 1))) if rows > 1 and size > 1 else -math.inf
    weights = batch.x.new_full((rows, rows), other).masked_fill(own, -math.log(size))
    return weights if batch.weight is None else weights + batch.weight.log()


def log_aggregate(
    latent: Latent, log_weights: Float[Tensor, "B B"]
) -> tuple[Float[Tensor, "K B"], Float[Tensor, "K B"]]:
    """Return estimates of log q(z) and sum_d log q(z_d) in nats.

    Args:
        latent: the codes z, and the posterior of each example.
        log_weights: logs of the weights of q(z_i|x_j), `[i, j]`.
    """
    each = None if latent.q is None else latent.q.elements()
    assert each is not None, "the rule `dimensions x joint posterior` refuses others"
    log_q = each.log_prob(latent.z.unsqueeze(2)).flatten(3)  # [K, B of z, B of q, D]
    joint = torch.logsumexp(log_weights + log_q.sum(-1), 2)
    marginals = torch.logsumexp(log_weights[..., None] + log_q, 2).sum(-1)
    return joint, marginals
