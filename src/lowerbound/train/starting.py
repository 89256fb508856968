"""Where a training starts: from the data's mean and variance, from training examples, or from trained weights."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core.errors import Incompatible
from ..core.model import VAE, Starting
from ..core.noise import Stream, seeded
from ..data.dataset import Dataset


def start_at_data(model: VAE, train: Dataset, seed: int) -> None:
    """Start the decoder's output at the mean and variance of the observed training data."""
    sums: list[Tensor] = []
    # grey values: their mean is the mean of all binarisations
    raw = replace(train, resample=False, augment=None)
    for batch in raw.start_rows(seed):
        mask = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        values, known = (t.double() for t in model.decoder.family.observations(batch.x, mask))
        parts = [known.sum(0), (known * values).sum(0), (known * values.square()).sum(0)]
        sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
    count = sums[0].clamp_min(1)
    mean = sums[1] / count
    variance = (sums[2] / count - mean.square()).clamp_min(0)
    model.decoder.start_at(mean.float().cpu(), variance.float().cpu())


def start_from_examples(root: nn.Module, train: Dataset, seed: int) -> None:
    """Give the parts that start from training examples as many as they want, drawn by the seed."""
    rows = replace(train, augment=None)
    for i, module in enumerate(m for m in root.modules() if isinstance(m, Starting)):
        some = rows.some(module.wants, seed, i + 1)
        with seeded(Stream.WEIGHTS, seed, i + 1), torch.no_grad():
            module.start_from(rows.batch(some.to(rows.x.device)).to(torch.device("cpu")))


def take_weights(model: VAE, init: VAE) -> None:
    """Copy the weights of a trained model into a new one of the same shapes.

    Raises:
        Incompatible: if a weight is missing or has another shape; the message lists them.
    """
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in init.state_dict().items()}
    rows = [
        f"{name}: {found.get(name, 'missing')} in the trained model, {wanted.get(name, 'none')} in the new one"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if rows:
        listing = "\n    ".join(rows[:20])
        raise Incompatible(
            f"the trained weights do not fit the new model\n    {listing}",
            fix="use the recipe and options of the trained run (lowerbound export-config RUN)",
        )
    model.load_state_dict(init.state_dict())
