"""A second VAE as the prior of the first."""

from math import log, prod

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer
from ..families.normal import DiagonalNormal, Normal, SharedNormal
from .layers import FromDraws, Scaling, plain_mlp


class SecondStage(FromDraws):
    """p(z) = integral p(z|u) N(u; 0, I) du of a `TwoStage` prior; its log_prob is an estimate from below."""

    def __init__(self, prior: "TwoStage") -> None:
        self.prior, self.noise = prior, prior.latent_dim + prior.size
        super().__init__(prior.scaling.loc, prior.event_shape)

    def _draw(self, noise: Tensor) -> Tensor:
        u, eps = noise.split([self.prior.latent_dim, self.prior.size], -1)
        px = self.prior.likelihood(u)
        return self.prior.scaling.outside(px.mean + px.stddev * eps)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log 1/K sum_k p(z, u_k) / q(u_k|z), u_k ~ q: its mean is below log p(z), and rises to it with K."""
        return self.prior.log_weights(value, self.prior.num_samples).logsumexp(0) - log(self.prior.num_samples)


@recorded
class TwoStage(nn.Module):
    r"""p(z) = integral p(z|u) N(u; 0, I) du: a second VAE, of the codes of the first.

    Dai & Wipf 2019, arXiv 1903.05789, sec. 4. p(z|u) = N(f(u), gamma^2 I) with a learned gamma, q(u|z) normal, both by
    small networks. log p(z) is estimated by log 1/K sum_k p(z, u_k) / q(u_k|z) with fresh u_k ~ q(u|z) (Burda et al.
    2016, arXiv 1509.00519, eq. 8): the mean over u is a lower bound, so `bound` is True. Since the estimate of p(z)
    itself is unbiased, an ELBO or an importance-weighted bound that reads it remains a bound on log p(x). It is fitted
    by its ELBO.

    Args:
        event_shape: shape of z.
        latent_dim: size of u; None means as many as z, as in the paper.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        num_samples: K.

    Raises:
        UsageError: if a number is not above 0.

    >>> p = TwoStage((3,), hidden=(8,))(None, None)
    >>> p.sample((5,)).shape, p.log_prob(torch.zeros(2, 5, 3)).shape
    (torch.Size([5, 3]), torch.Size([2, 5]))
    """

    support: Support = "real"
    bound = True

    def __init__(
        self,
        event_shape: tuple[int, ...],
        latent_dim: int | None = None,
        hidden: tuple[int, ...] = (256, 256),
        num_samples: int = 16,
    ) -> None:
        super().__init__()
        self.event_shape, self.size, self.num_samples = tuple(event_shape), prod(event_shape), num_samples
        self.latent_dim = self.size if latent_dim is None else latent_dim
        if self.latent_dim < 1 or num_samples < 1:
            raise UsageError(
                f"u cannot have {self.latent_dim} dimensions and {num_samples} samples", expected="1 or more"
            )
        self.scaling = Scaling(self.size)
        self.encoder = plain_mlp(self.size, hidden, 2 * self.latent_dim)
        self.decoder = plain_mlp(self.latent_dim, hidden[::-1], self.size)
        self.posterior_family = Normal((self.latent_dim,), floor=1e-3)
        self.likelihood_family = SharedNormal((self.size,), floor=1e-2)

    def start_from_codes(self, z: Tensor) -> None:
        """Scale the codes by their mean and variance."""
        self.scaling.start_from_codes(z.flatten(1))

    def likelihood(self, u: Tensor) -> DiagonalNormal:
        """Return p(z|u), z scaled."""
        return self.likelihood_family(self.decoder(u))

    def log_weights(self, z: Tensor, num_samples: int) -> Tensor:
        """Return log p(z, u) - log q(u|z) of fresh draws u ~ q(u|z), `[num_samples, ...]`, z `[..., *event]`."""
        inner = self.scaling.inside(z.flatten(z.ndim - len(self.event_shape)))
        q = self.posterior_family(self.encoder(inner).unflatten(-1, (2, self.latent_dim)))
        # noise of single precision, so that a model in float64 sees the same draws
        eps = torch.randn(num_samples, *q.batch_shape, self.latent_dim, device=z.device, dtype=torch.float32)
        u = q.mean + q.stddev * eps.to(q.mean)
        p = DiagonalNormal(torch.zeros_like(u), u.new_ones(()), 1)
        log_pz = self.likelihood(u).log_prob(inner) - self.scaling.log_volume()
        return log_pz + p.log_prob(u) - q.log_prob(u)

    def fit_loss(self, z: Tensor) -> Tensor:
        """Return minus the ELBO of each code `[B]`, one draw of u."""
        return -self.log_weights(z, 1)[0]

    def forward(self, y: Tensor | None, infer: Infer | None) -> SecondStage:
        """Return p(z), whatever y is."""
        return SecondStage(self)
