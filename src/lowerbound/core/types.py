"""What flows between data, model and objective: Batch, Latent, Trace.

Axes: K samples, B data points. All log-densities are in nats, summed over event dimensions, shape `[K, B]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from .distribution import Distribution
from .kl import kl_divergence


@dataclass
class Batch:
    """B examples as a model sees them.

    Args:
        x: what the likelihood scores, `[B, *shape]`.
        seen: what the encoder sees; None means x.
        y: condition, one-hot labels `[B, C]`.
        mask: 1 where x is observed, shape of x; None means everywhere.
        seen_mask: 1 where the encoder may look, shape of what it sees; None means where `mask` says.
        index: row numbers `[B]`.
        weight: row weights `[B]`, 1 on average over the data set.
    """

    x: Float[Tensor, "B *event"]
    seen: Float[Tensor, "B *seen"] | None = None
    y: Float[Tensor, "B C"] | None = None
    mask: Float[Tensor, "B *event"] | None = None
    index: Tensor | None = None
    weight: Float[Tensor, " B"] | None = None
    seen_mask: Float[Tensor, "B *seen"] | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        rest = {name: None if t is None else t.to(device) for name, t in vars(self).items() if name != "x"}
        return Batch(self.x.to(device), **rest)

    def rows(self, index: slice) -> "Batch":
        """Return some of the rows."""
        rest = {name: None if t is None else t[index] for name, t in vars(self).items() if name != "x"}
        return Batch(self.x[index], **rest)

    def mean(self, value: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        """Average `value` over the rows, each times its weight where there are any.

        The weights are not made to sum to one within a batch: that would bias the gradient where they differ much.
        """
        return value.mean() if self.weight is None else (self.weight * value).mean()


@dataclass
class Latent:
    """One latent group of one pass.

    Args:
        z: values `[K, B, *latent]`.
        q: posterior, or None when sampling without data.
        p: prior.
        log_q: log q(z|.) in nats, `[K, B]`.
        log_p: log p(z|.) in nats, `[K, B]`.
        drawn: True if z came from q, so that a closed-form KL may stand for the sample's.
    """

    z: Float[Tensor, "K B *latent"]
    q: Distribution | None
    p: Distribution
    log_q: Float[Tensor, "K B"]
    log_p: Float[Tensor, "K B"]
    drawn: bool

    @property
    def kl(self) -> Float[Tensor, "K B"]:
        """KL(q || p) in nats: the closed form if z was drawn from q and one is registered, else log q - log p."""
        closed = kl_divergence(self.q, self.p) if self.drawn and self.q is not None else None
        return self.log_q - self.log_p if closed is None else closed.expand(self.log_q.shape)


Latents: TypeAlias = tuple[Latent, ...]


def log_weights(log_px: Float[Tensor, "K B"], latents: Latents) -> Float[Tensor, "K B"]:
    """Return the log importance weights log p(x, z) - log q(z|x) in nats, `[K, B]`."""
    for latent in latents:
        log_px = log_px + (latent.log_p - latent.log_q)
    return log_px


def total_rate(latents: Latents) -> Float[Tensor, "K B"]:
    """Return the KL of all groups together in nats, `[K, B]`."""
    total = latents[0].kl
    for latent in latents[1:]:
        total = total + latent.kl
    return total


@dataclass
class Trace:
    """Everything an objective may read of one pass through the model.

    Args:
        latents: the groups, top to bottom.
        px: the likelihood p(x|z).
        log_px: log p(x|z) in nats, `[K, B]`.
        log_share: log of each sample's share in an expectation under q, `[K, B]`: -log K for plain draws,
            log q(y|x) when a group is enumerated.
    """

    latents: Latents
    px: Distribution
    log_px: Float[Tensor, "K B"]
    log_share: Float[Tensor, "K B"]

    @property
    def log_w(self) -> Float[Tensor, "K B"]:
        """Log importance weights log p(x, z) - log q(z|x) in nats."""
        return log_weights(self.log_px, self.latents)

    @property
    def kl(self) -> Float[Tensor, "K B"]:
        """KL of all groups together in nats."""
        return total_rate(self.latents)

    def mean(self, value: Float[Tensor, "K B"]) -> Float[Tensor, " B"]:
        """Expectation over the samples, by their shares."""
        if value.shape[0] == 1:
            return value[0] * self.log_share[0].exp()
        return (self.log_share.exp() * value).sum(0)

    def log_mean_exp(self, value: Float[Tensor, "K B"]) -> Float[Tensor, " B"]:
        """Log of the expectation of exp(value) over the samples, by their shares."""
        return torch.logsumexp(self.log_share + value, 0)

    def penalty(self) -> Float[Tensor, " B"] | None:
        """What posteriors cost in training beside the rate (a quantiser's commitment); None if nothing."""
        costs = [latent.q.penalty for latent in self.latents if latent.q is not None and latent.q.penalty is not None]
        return sum(self.mean(cost.expand(self.log_px.shape)) for cost in costs) if costs else None  # pyright: ignore

    def terms(self) -> dict[str, Tensor]:
        """The terms every objective reports, `[B]` in nats: distortion -E log p(x|z), rate KL(q||p), elbo."""
        distortion, rate = -self.mean(self.log_px), self.mean(self.kl)
        return {"distortion": distortion, "rate": rate, "elbo": -(distortion + rate)}


@dataclass(frozen=True)
class Lent:
    """The top posterior, lent to priors that are made of posteriors: `infer(x)` is q(z|x).

    Args:
        call: from examples `[M, *shape]` to their posterior, batch shape `[M]`.
        index: row numbers `[B]` of the training examples in this pass, so that a prior can leave each out of its own;
            None outside training.
    """

    call: Callable[..., Distribution]
    index: Tensor | None = None

    def __call__(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Distribution:
        """Return q(z|x, y)."""
        return self.call(x, y, mask)


Infer: TypeAlias = Callable[..., Distribution]
"""`infer(x, y)`: the top posterior q(z|x, y); in a pass through a model, a `Lent`."""
