"""What the oracles share: linear models with weights set by hand, and noise over which averages are exact."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder, Family
from lowerbound.core.walk import replay
from lowerbound.families import Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

Numbers = Sequence[float] | Sequence[Sequence[float]] | Tensor


def f64(values: Numbers | float) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def set_linear(network: MLP, weight: Tensor, bias: Tensor) -> None:
    """Make an MLP without hidden layers compute `weight @ x + bias`."""
    with torch.no_grad():
        network.out.weight.copy_(weight)
        network.out.bias.copy_(bias.flatten())


def set_posterior(model: lb.VAE, weight: Tensor, bias: Tensor, variance: Tensor) -> None:
    """Make q(z|x) = N(weight @ x + bias, variance), weight `[L, D]`, of a model whose encoder is one linear layer."""
    family = model.groups[0].posterior_family
    set_linear(
        model.encoder.networks[0], torch.cat([weight, torch.zeros_like(weight)]), family.bias_for(bias, variance)
    )


def linear_model(likelihood: Family, weight: Tensor, bias: Tensor) -> lb.VAE:
    """Return a float64 VAE, without gradients, that decodes z to `weight @ z + bias`, weight `[D, L]`.

    q is set by `set_posterior`.
    """
    latent = (weight.shape[1],)
    posterior = Normal(latent)
    encoder = MLP(likelihood.event_shape, posterior.params, hidden=())
    decoder = MLP(latent, likelihood.params, hidden=())
    group = Flat(posterior, StandardNormal(latent))
    model = lb.VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood))
    set_linear(model.double().decoder.network, weight, bias)
    return model.requires_grad_(False)


def constant_posterior(model: lb.VAE, mean: Numbers, variance: Numbers) -> lb.VAE:
    """Make q(z|x) the same N(mean, variance) for all x, and return the model."""
    dims = prod(model.decoder.family.event_shape)
    set_posterior(model, torch.zeros(len(mean), dims, dtype=torch.float64), f64(mean), f64(variance))
    return model


def on_grid(model: lb.VAE, batch: lb.Batch, nodes: int = 4001, reach: float = 12.0) -> lb.Trace:
    """Pass `batch` with z on a grid over +-reach standard deviations of a one-dimensional q.

    The shares are those of the trapezoid rule, which is exact to rounding for smooth functions that vanish at both
    ends, so `trace.mean` and `trace.log_mean_exp` are integrals under q and not estimates.
    """
    q = model.infer(batch.x, batch.y)
    t = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    log_share = torch.distributions.Normal(f64(0.0), f64(1.0)).log_prob(t) + torch.log(t[1] - t[0])
    trace = model(batch, nodes, replay({0: q.mean + q.stddev * t[:, None, None]}))
    return replace(trace, log_share=log_share[:, None].expand_as(trace.log_share))


def expected_bound(trace: lb.Trace, num_samples: int, bins: int = 1 << 14) -> float:
    """Return E[log mean of K weights], K >= 8, of the first example, from a trace on a grid and without sampling.

    The weights' distribution is put on an even grid (each atom split so that its mean stays), and the distribution
    of the sum of K of them is its K-th power in Fourier space.
    """
    w, share = trace.log_w[:, 0].exp().numpy(), trace.log_share[:, 0].exp().numpy()
    place = w / w.max() * (bins - 1)
    left = np.minimum(place.astype(int), bins - 2)
    mass = np.bincount(left, share * (1 - place + left), bins) + np.bincount(left + 1, share * (place - left), bins)
    size = 1 << (num_samples * bins - 1).bit_length()
    total = np.fft.irfft(np.fft.rfft(mass / mass.sum(), size) ** num_samples, size)[1:].clip(0)
    values = np.arange(1, size) * w.max() / (bins - 1) / num_samples
    return float((total * np.log(values)).sum() / total.sum())


def cubature(dims: int) -> Tensor:
    """Return 2 `dims` points of mean 0 and covariance I, `[2 dims, dims]`: quadratics average over them exactly."""
    return dims**0.5 * torch.cat([torch.eye(dims, dtype=torch.float64), -torch.eye(dims, dtype=torch.float64)])


def inject(monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> None:
    """Let every draw of K standard normals per example be the K rows of `noise` `[K, L]`."""
    monkeypatch.setattr(torch, "randn", lambda size, **options: noise[:, None].expand(size).to(**options))


def z_score(draws: Tensor, expected: Tensor | float) -> float:
    """Return (mean - expected) / standard error; |z| < 5.5 fails by chance in 4 of 10^8 tests."""
    return float((draws.mean() - expected) / (draws.std() / len(draws) ** 0.5))
