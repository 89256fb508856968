"""A diffusion model as the prior, with a bound of its log-density."""

from math import prod

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer
from ..families.normal import DiagonalNormal
from .layers import FromDraws, Scaling, plain_mlp, timed, timed_size

_AT_ONCE = 1 << 24  # values in one layer of all steps together


class Denoised(FromDraws):
    """p(z) of a `Diffusion` prior; its log_prob is an estimate from below, of fresh noise at each call."""

    def __init__(self, prior: "Diffusion") -> None:
        self.prior, self.noise = prior, prior.size * (prior.steps + 2)
        super().__init__(prior.scaling.loc, prior.event_shape)

    def _draw(self, noise: Tensor) -> Tensor:
        return self.prior.scaling.outside(self.prior.denoise(noise.unflatten(1, (-1, self.prior.size))))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log p(z, v) - log q(v|z) of one chain of noisy codes v ~ q(v|z)."""
        inner = self.prior.scaling.inside(value.flatten(value.ndim - len(self.event_shape)))
        rows = inner.flatten(0, -2).split(max(1, _AT_ONCE // (self.prior.width * self.prior.steps)))
        weights = torch.cat([self.prior.log_weight(part) for part in rows])
        return weights.reshape(inner.shape[:-1]) - self.prior.scaling.log_volume()


@recorded
class Diffusion(nn.Module):
    r"""p(z) = integral p(v_T) prod_t p(v_{t-1}|v_t) p(z|v_0) dv: noise that a network takes away in T steps.

    Kingma et al. 2021, "Variational Diffusion Models", arXiv 2107.00630, sec. 3 (discrete time, eqs. 13 and 14), after
    Ho et al. 2020, arXiv 2006.11239; as a prior: Kuzina & Tomczak 2024, arXiv 2412.01373, sec. 4.2. q(v_t|z) is
    N(a_t z, s_t^2) with a_t^2 = 1 - s_t^2, and log (s_t^2 / a_t^2) grows linearly. A network predicts the noise in v_t,
    and so the mean of p(v_{t-1}|v_t); its variance is that of q(v_{t-1}|v_t, z). log p(z) is estimated by
    log p(z, v) - log q(v|z) of one chain v ~ q(v|z): a lower bound on average, so `bound` is True; as its exponential
    is unbiased in p(z), bounds that read it remain bounds on log p(x).

    Args:
        event_shape: shape of z.
        hidden: widths of the network's hidden layers.
        steps: T.
        least: log (s_0^2 / a_0^2), the width of p(z|v_0).
        most: log (s_T^2 / a_T^2); p(v_T) is N(0, I).

    Raises:
        UsageError: if there is no step, or the noise does not grow.

    >>> p = Diffusion((3,), hidden=(8,), steps=5)(None, None)
    >>> p.sample((5,)).shape, p.log_prob(torch.zeros(2, 5, 3)).shape
    (torch.Size([5, 3]), torch.Size([2, 5]))
    """

    support: Support = "real"
    bound = True
    noise: Tensor

    def __init__(
        self,
        event_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (256, 256),
        steps: int = 25,
        least: float = -6.0,
        most: float = 7.0,
    ) -> None:
        super().__init__()
        if steps < 1 or not -30 < least < most < 30:
            raise UsageError(
                f"noise cannot grow from {least} to {most} in {steps} steps",
                expected="one step or more, and logs of ratios that grow, within -30 and 30",
            )
        self.event_shape, self.size, self.steps = tuple(event_shape), prod(event_shape), steps
        self.width = max((*hidden, self.size))
        self.scaling = Scaling(self.size)
        self.network = plain_mlp(timed_size(self.size), hidden, self.size)
        with torch.no_grad():
            self.network[-1].weight.mul_(0.1)  # pyright: ignore[reportCallIssue]  (it starts near no prediction)
        # n_t = s_t^2 / a_t^2: in units of a_t, what is seen of z at t is z + sqrt(n_t) e
        self.register_buffer("noise", torch.linspace(least, most, steps + 1).exp(), persistent=False)

    def start_from_codes(self, z: Tensor) -> None:
        """Scale the codes by their mean and variance."""
        self.scaling.start_from_codes(z.flatten(1))

    def predicted(self, seen: Tensor, t: Tensor) -> Tensor:
        """Return the noise e that the network finds in z + sqrt(n_t) e `[..., D]`, at step numbers t."""
        scaled = seen * (1 + self.noise[t]).rsqrt()[..., None]
        return self.network(timed(scaled, (t / self.steps).to(seen)[..., None]))

    def log_weight(self, z: Tensor) -> Tensor:
        """Return log p(z, v) - log q(v|z) of one chain of fresh noise, z `[N, D]` in the network's units."""
        n = self.noise
        # noise of single precision, so that a model in float64 sees the same draws
        fresh = torch.randn(self.steps + 1, *z.shape, device=z.device, dtype=torch.float32).to(z)
        grown = torch.cat([n[:1], n.diff()]).sqrt()[:, None, None] * fresh
        walk = grown.cumsum(0)  # [T + 1, N, D]: what is seen at t is z + walk_t
        t = torch.arange(1, self.steps + 1, device=z.device)
        before, after = n[:-1, None, None], n[1:, None, None]
        missed = self.predicted(z + walk[1:], t[:, None].expand(-1, len(z))) - walk[1:] / after.sqrt()
        # means of p and q of step t - 1 given t, in units of their common standard deviation, seen from that of q
        shift = (after / before - 1).sqrt() * missed
        place = (walk[:-1] - before / after * walk[1:]) / (before * (after - before) / after).sqrt()
        one, zero = z.new_ones(()), torch.zeros_like(z)
        steps = DiagonalNormal(-shift, one, 1).log_prob(place) - DiagonalNormal(zero, one, 1).log_prob(place)
        share = (1 + n[-1]).rsqrt()  # a_T
        last = share * (z + walk[-1])
        ends = DiagonalNormal(zero, one, 1).log_prob(last)
        ends = ends - DiagonalNormal(share * z, share * n[-1].sqrt(), 1).log_prob(last)
        return DiagonalNormal(z + walk[0], n[0].sqrt(), 1).log_prob(z) + steps.sum(0) + ends

    def denoise(self, noise: Tensor) -> Tensor:
        """Return draws `[N, D]` in the network's units from noise `[N, T + 2, D]`: v_T, each step, and z."""
        n = self.noise
        seen = noise[:, 0] * (1 + n[-1]).sqrt()
        for t in range(self.steps, 0, -1):
            step = torch.full((len(noise),), t, device=noise.device)
            kept = n[t - 1] / n[t]
            seen = seen - (1 - kept) * n[t].sqrt() * self.predicted(seen, step)
            seen = seen + (kept * (n[t] - n[t - 1])).sqrt() * noise[:, -t - 1]
        return seen + n[0].sqrt() * noise[:, -1]

    def fit_loss(self, z: Tensor) -> Tensor:
        """Return minus the bound of each code `[B]`, one chain."""
        return -self.log_weight(self.scaling.inside(z.flatten(1)))

    def forward(self, y: Tensor | None, infer: Infer | None) -> Denoised:
        """Return p(z), whatever y is."""
        return Denoised(self)
