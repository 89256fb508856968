"""Which latent dimensions carry anything."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..data.dataset import Dataset

ROWS = 1000


def mean_variance(model: VAE, data: Dataset) -> Float[Tensor, " D"]:
    """Return the variance over the data of each dimension of the posterior mean, `[D]`.

    Raises:
        UsageError: if there are fewer than 2 rows or the model does not know its data.
    """
    if model.spec is None or len(data) < 2:
        raise UsageError("active units need at least 2 rows and a model that knows its data")
    means = []
    for batch in data.matching(model.spec).to(model.device).blocks(ROWS):
        means.append(
            model.encode(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask).flatten(1).double().cpu()
        )
    return torch.cat(means).var(0)


def active_units(model: VAE, data: Dataset, *, threshold: float = 0.01) -> int:
    """Count the latent dimensions with Var_x(E[z_d|x]) > threshold (Burda et al. 2016, arXiv 1509.00519, sec. 5.2)."""
    return int((mean_variance(model, data) > threshold).sum())
