"""Which latent dimensions carry anything."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import Incompatible, NoDensity, UsageError
from ..core.kl import kl_divergence
from ..core.model import VAE, Group, inference
from ..core.noise import Stream, seeded
from ..data.dataset import Dataset
from .likelihood import no_density_reason, shares

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


def rate_per_group(model: VAE, data: Dataset, *, seed: int = 0) -> Float[Tensor, " G"]:
    """Return the mean over the data of KL(q(z_g|x, .) || p(z_g|.)) of each latent group, `[G]`, top to bottom, in nats.

    One draw of the groups above for each row; they sum to the rate.

    Args:
        model: a trained model.
        data: rows as the model wants them (`Dataset.matching`).
        seed: decides the draws.

    Raises:
        UsageError: if there are no rows.
        NoDensity: if the model has no density.
    """
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    if not len(data):
        raise UsageError(f"{data.spec.name} has 0 {data.split} examples", expected="at least 1")
    share, total = shares(data).split(ROWS), []
    with inference(model):
        for i, (part, batch) in enumerate(zip(share, data.to(model.device).blocks(ROWS), strict=True)):
            with seeded(Stream.EVALUATION, seed, i, 0):
                _, latents = model.visit(batch)
            total.append(torch.stack([part @ latent.kl[0].double().cpu() for latent in latents]))
    return torch.stack(total).sum(0)


def rate_per_dimension(model: VAE, data: Dataset) -> Float[Tensor, " D"]:
    """Return the mean over the data of KL(q(z_d|x) || p(z_d)) for each dimension of the top latent, `[D]`, in nats.

    Where q and p factorise over the dimensions, these sum to the rate.

    Args:
        model: a trained model.
        data: rows as the model wants them (`Dataset.matching`).

    Raises:
        UsageError: if there are no rows.
        NoDensity: if the model has no density.
        Incompatible: if q or p does not factorise, or their KL has no closed form.
    """
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    if not len(data):
        raise UsageError(f"{data.spec.name} has 0 {data.split} examples", expected="at least 1")
    top = next(g for g in model.groups if isinstance(g, Group))
    share, total = shares(data).split(ROWS), []
    with inference(model):
        for part, batch in zip(share, data.to(model.device).blocks(ROWS), strict=True):
            q = model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask)
            p = top.prior(None, batch.y, model.infer)
            each = [d.elements() if isinstance(d, Distribution) else None for d in (q, p)]
            kl = None if each[0] is None or each[1] is None else kl_divergence(each[0], each[1])
            if kl is None:
                raise Incompatible(
                    f"the KL of {type(q).__name__} from {type(p).__name__} does not split into dimensions"
                )
            total.append(part @ kl.flatten(1).double().cpu())
    return torch.stack(total).sum(0)
