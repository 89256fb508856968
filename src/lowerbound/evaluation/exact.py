"""log p(x) in closed form, where the model is linear and its noise normal."""

import copy
import math

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from ..core.distribution import Distribution
from ..core.model import VAE, Group, Network, inference
from ..core.types import Batch
from ..data.dataset import Dataset
from .importance import BLOCK_ROWS, Units, log_volume


def is_linear(model: VAE) -> bool:
    """Return whether x = W z + b + noise, with z and the noise normal, neither's law a matter of z or y."""
    groups = [group for group in model.groups if isinstance(group, Group)]
    network, family = model.decoder.network, model.decoder.family
    if len(groups) != 1 or not (isinstance(network, Network) and network.affine and family.additive):
        return False
    if groups[0].borrows or any(isinstance(part, Network) and part.condition for part in groups[0].modules()):
        return False
    with inference(model):
        prior = groups[0].prior(None, None, model.infer)
    return isinstance(prior, Distribution) and prior.normal and not prior.batch_shape


def exact_log_px(model: VAE, data: Dataset, *, units: Units = "data") -> Tensor | None:
    r"""Return the exact log p(x) of each row, `[N]` float64 in nats, or None if the model is not linear.

    With z = m + S u, u ~ N(0, I), and A = W S: p(x) = N(x; W m + b, A A^T + diag(s^2)), over the cells that are
    observed (Tipping & Bishop 1999, "Probabilistic Principal Component Analysis", J. R. Statist. Soc. B 61, eq. 5).

    Args:
        model: the model.
        data: rows as the model wants them (`Dataset.matching`).
        units: whose units densities of standardised columns are in.

    Raises:
        UsageError: if there are no such units.
    """
    if not is_linear(model):
        return None
    decoder = copy.deepcopy(model.decoder).double().eval()
    group = model.groups[0]
    assert isinstance(group, Group)
    with inference(model):
        prior = group.prior(None, None, model.infer)
        mean, scale = prior.mean.double().flatten(), prior.variance.double().sqrt().flatten()
        corners = torch.cat([mean[None], mean + scale.diag()])  # the middle, and one deviation along each dimension
        values = [_of_batch(decoder, group, corners, batch) for batch in data.blocks(BLOCK_ROWS)]
    return torch.cat(values) - log_volume(data, units)


def _of_batch(decoder: torch.nn.Module, group: Group, corners: Tensor, batch: Batch) -> Tensor:
    """Return log p(x) of each row of a batch, `[B]`."""
    z = corners.unflatten(1, tuple(group.posterior_family.event_shape))
    y = None if batch.y is None else batch.y.double()
    px = decoder(group.merge(None, z[:, None].expand(-1, len(batch.x), *z.shape[1:])), y)
    means = px.mean.flatten(2)  # [L + 1, B, D]
    loc, factor, variance = means[0], (means[1:] - means[0]).permute(1, 2, 0), px.variance[0].flatten(1)
    x = batch.x.double().flatten(1)
    if batch.mask is not None:  # a missing cell stands beside the others with a density of 1 at any value
        seen = batch.mask.bool().flatten(1)
        x, loc = torch.where(seen, x, 0.0), torch.where(seen, loc, 0.0)
        factor, variance = factor * seen[:, :, None], torch.where(seen, variance, 0.5 / math.pi)
    return LowRankMultivariateNormal(loc, factor, variance, validate_args=False).log_prob(x).cpu()
