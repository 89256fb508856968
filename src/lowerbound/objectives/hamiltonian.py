"""The Hamiltonian VAE: draws of q are moved towards the posterior by leapfrog steps whose density is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core.distribution import Distribution
from ..core.errors import ShapeError, UsageError
from ..core.model import VAE, Group
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from .iwae import whole


@recorded
class Hamiltonian(Objective):
    r"""E[log p(x, z_T) + log N(rho_T; 0, I) - log q(z_0|x) - log N(gamma; 0, I)], a bound on log p(x).

    Caterini et al. 2018, arXiv 1805.11328, algorithm 1. z_0 is drawn from q, and a momentum is heated: rho_0 =
    gamma / sqrt(beta_0), gamma ~ N(0, I). T leapfrog steps under the energy -log p(x, z) move both, and after step t
    the momentum is cooled by sqrt(beta_{t-1} / beta_t), where 1 / sqrt(beta_t) falls from 1 / sqrt(beta_0) to 1 by the
    quadratic scheme. Leapfrog steps preserve volume, and the cooling undoes the volume of the heating, so (z_T, rho_T)
    has the density q(z_0|x) N(gamma; 0, I). `elbo` is this bound: its `rate` holds both momenta, and its `distortion`
    is that of z_T. `plain_elbo` is the bound of z_0, that is of q alone (by sampling). The moves belong to the
    training: the model that is kept has q alone, and so has what `evaluate` says of it.

    Args:
        num_steps: T; with 0 this is the ELBO, by sampling.
        num_samples: samples of q for each example; the bound is averaged over them.
        step_size: size at which the learned steps start.
        largest_step: no step becomes larger: leapfrog steps diverge beyond twice the posterior's standard deviation.
        tempering: True learns beta_0 below 1; False leaves it 1, and then no step gains more than its own error, as
            the energy -log p(x, z_t) - log N(rho_t; 0, I) is conserved.
        start_heat: 1 / sqrt(beta_0) at the start, above 1. Hot momenta cost more than they gain where q is good.
        step_shape: shape of the step size: () is one for all dimensions, that of z is one for each.

    Raises:
        UsageError: if a number is out of its range.

    >>> Hamiltonian(num_steps=3).step().item()
    0.05...
    """

    moves = True

    def __init__(
        self,
        num_steps: int = 3,
        num_samples: int = 1,
        step_size: float = 0.05,
        largest_step: float = 0.5,
        step_shape: tuple[int, ...] = (),
        start_heat: float = 1.05,
        *,
        tempering: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(num_steps, int) or num_steps < 0:
            raise UsageError(f"the number of steps cannot be {num_steps}", expected="a whole number, 0 or more")
        if not 0 < step_size < largest_step < math.inf:
            raise UsageError(f"the step size cannot be {step_size}", expected=f"above 0 and below {largest_step}")
        if not 1 < start_heat < math.inf:
            raise UsageError(f"the heat cannot start at {start_heat}", expected="a finite number above 1")
        self.num_steps, self.num_samples, self.largest_step = num_steps, whole(num_samples), largest_step
        start = math.log(step_size / (largest_step - step_size))
        self.raw_step = nn.Parameter(torch.full(tuple(step_shape), start))
        raw_heat = start_heat - 1 + math.log(-math.expm1(1 - start_heat))  # softplus of it is start_heat - 1
        self.raw_heat = nn.Parameter(torch.tensor(raw_heat)) if tempering else None

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the model with the step sizes and the temperature."""
        return {"model": [*model.parameters(), *self.parameters()]}

    def step(self) -> Tensor:
        """Return the step sizes, `[*step_shape]`."""
        return self.largest_step * self.raw_step.sigmoid()

    def heat(self, t: int) -> Tensor | float:
        """Return 1 / sqrt(beta_t) >= 1, which falls from its learned start at t = 0 to 1 at t = T."""
        if self.raw_heat is None or t == self.num_steps:
            return 1.0
        return 1 + nn.functional.softplus(self.raw_heat) * (1 - (t / self.num_steps) ** 2)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the bound, averaged over the batch."""
        plain = model(batch, self.num_samples)
        trace = self._moved(model, batch, plain) if self.num_steps else plain
        terms = {
            "distortion": -trace.mean(trace.log_px),
            "rate": trace.mean(trace.log_px - trace.log_w),
            "elbo": trace.mean(trace.log_w),
            "plain_elbo": plain.mean(plain.log_w),
        }
        return Outcome({"model": -batch.mean(terms["elbo"])}, terms, trace)

    def _moved(self, model: VAE, batch: Batch, plain: Trace) -> Trace:
        """Return the pass with z moved, and the momenta's log-densities in log q."""
        latent, group, z = plain.latents[0], model.groups[0], plain.latents[0].z
        assert isinstance(group, Group), "a model's groups are groups"
        if self.raw_step.ndim and self.raw_step.shape != z.shape[2:]:
            raise ShapeError(
                f"the steps have shape {tuple(self.raw_step.shape)}",
                expected=f"() or {tuple(z.shape[2:])}, the shape of z",
            )

        def likelihood(z: Tensor) -> Distribution:
            return model.decoder(group.merge(None, z), batch.y)

        def log_joint(z: Tensor) -> Tensor:
            return (likelihood(z).log_prob(batch.x, batch.mask) + latent.p.log_prob(z)).sum()

        gamma = torch.randn_like(z)
        z, rho = self._leapfrog(torch.func.grad(log_joint), z, gamma * self.heat(0))
        log_q = latent.log_q + _log_standard(gamma) - _log_standard(rho)
        px = likelihood(z)
        moved = replace(latent, z=z, log_q=log_q, log_p=latent.p.log_prob(z).expand(log_q.shape), drawn=False)
        return replace(plain, latents=(moved,), px=px, log_px=px.log_prob(batch.x, batch.mask).expand(log_q.shape))

    def _leapfrog(self, slope: Callable[[Tensor], Tensor], z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        size, force = self.step(), slope(z)
        for t in range(1, self.num_steps + 1):
            half = rho + size / 2 * force
            z = z + size * half
            force = slope(z)
            rho = (half + size / 2 * force) * (self.heat(t) / self.heat(t - 1))
        return z, rho


def _log_standard(value: Tensor) -> Tensor:
    """Return log N(value; 0, I) of each sample and row, `[K, B]`."""
    return -0.5 * (value.square() + math.log(2 * math.pi)).flatten(2).sum(2)
