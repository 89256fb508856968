"""Priors of normals with learned parameters: one, and a mixture of several."""

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer
from ..families.mixture import Mixture
from ..families.normal import DiagonalNormal, Normal

_FLOOR = 1e-3
_ROUNDS = 20  # of k-means


@recorded
class LearnedNormal(nn.Module):
    r"""p(z) = N(mu, diag(sigma^2)) with learned mu and sigma; it starts at N(0, I).

    It can be no better than N(0, I) beside a free encoder and decoder, and is what fits codes that N(0, I) does not,
    such as those of a plain autoencoder (Ghosh et al. 2020, arXiv 1903.12436, sec. 4).

    Args:
        event_shape: shape of z.

    >>> LearnedNormal((3,))(None, None).log_prob(torch.zeros(3)).item()  # -3/2 log(2 pi)
    -2.75681...
    """

    support: Support = "real"

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.normal = Normal(self.event_shape, floor=_FLOOR)
        self.params = nn.Parameter(torch.zeros(self.normal.params))

    def start_from_codes(self, z: Tensor) -> None:
        """Start at the mean and variance of codes `[N, *event]`."""
        self.params.copy_(self.normal.bias_for(z.mean(0), z.var(0, unbiased=False)))

    def forward(self, y: Tensor | None, infer: Infer | None) -> DiagonalNormal:
        """Return N(mu, diag(sigma^2)), whatever y is."""
        return self.normal(self.params)


@recorded
class MixtureOfNormals(nn.Module):
    r"""p(z) = sum_m w_m N(mu_m, diag(sigma_m^2)) with learned weights, means and variances.

    Dilokthanakul et al. 2016, arXiv 1611.02648; Nalisnick et al. 2016, "Approximate Inference for Deep Latent Gaussian
    Mixtures". It starts with means from N(0, I / 2) and variances 1/2: spread out, with the mean and variance of
    N(0, I).

    Args:
        event_shape: shape of z.
        components: number of components.

    Raises:
        UsageError: if there is not one component at least.

    >>> p = MixtureOfNormals((3,), components=7)(None, None)
    >>> p.sample((5,)).shape, p.log_prob(torch.zeros(5, 3)).shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    support: Support = "real"

    def __init__(self, event_shape: tuple[int, ...], components: int = 50) -> None:
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture cannot have {components} components", expected="at least 1")
        self.event_shape = tuple(event_shape)
        self.normal = Normal(self.event_shape, floor=_FLOOR)
        means = torch.randn(components, *self.event_shape) * 0.5**0.5
        params = [self.normal.bias_for(mean, torch.full_like(mean, 0.5)) for mean in means]
        self.params, self.logits = nn.Parameter(torch.stack(params)), nn.Parameter(torch.zeros(components))

    def start_from_codes(self, z: Tensor) -> None:
        """Start at clusters of codes `[N, *event]` found by k-means; a component without one is as wide as all."""
        flat = z.flatten(1)
        nearest = _k_means(flat, min(len(flat), len(self.logits)))
        member = torch.nn.functional.one_hot(nearest, len(self.logits)).to(flat)
        # one code of the variance of all in each cluster: a cluster of a single code must not become a spike
        count = member.sum(0)[:, None] + 1
        mean = (member.T @ flat + flat.mean(0)) / count
        variance = (member.T @ (flat - mean[nearest]).square() + flat.var(0, unbiased=False)) / count
        for m, (centre, spread) in enumerate(zip(mean, variance, strict=True)):
            pair = centre.reshape(self.event_shape), spread.reshape(self.event_shape)
            self.params[m] = self.normal.bias_for(*pair)
        self.logits.copy_(count[:, 0].log())

    def forward(self, y: Tensor | None, infer: Infer | None) -> Mixture:
        """Return the mixture, whatever y is."""
        return Mixture(self.normal(self.params), self.logits)


def _k_means(z: Tensor, clusters: int) -> Tensor:
    """Return the cluster of each code `[N]` after Lloyd's rounds from random codes."""
    centres = z[torch.randperm(len(z), device=z.device)[:clusters]]
    nearest = torch.cdist(z, centres).argmin(1)
    for _ in range(_ROUNDS):
        member = torch.nn.functional.one_hot(nearest, clusters).to(z)
        count = member.sum(0)[:, None]
        centres = torch.where(count > 0, member.T @ z / count.clamp_min(1), centres)
        nearest = torch.cdist(z, centres).argmin(1)
    return nearest
