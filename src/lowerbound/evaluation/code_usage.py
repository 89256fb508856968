"""How much of each code book is in use."""

from dataclasses import dataclass

import torch

from ..core.codes import Quantized
from ..core.errors import Incompatible
from ..core.model import VAE, inference
from ..core.walk import mode
from ..data.dataset import Dataset

_BLOCK = 500


@dataclass(frozen=True)
class CodeUsage:
    """Use of one book over all rows and places.

    Args:
        group: number of the latent group, from the top.
        stage: number of the stage, from the first.
        classes: number of codes.
        used: how many of them were used at all.
        perplexity: exp of the entropy of their shares: the number of codes, all as frequent, that would say as much.
        codes: how many codes were looked at: rows times places.
    """

    group: int
    stage: int
    classes: int
    used: int
    perplexity: float
    codes: int


def code_usage(model: VAE, rows: Dataset) -> tuple[CodeUsage, ...]:
    """Return how each code book is used over all rows; a batch alone would say too little.

    Args:
        model: a model with codes.
        rows: rows in the model's form (`data.test.matching(model.spec)`).

    Raises:
        Incompatible: if it has no codes.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> run = lb.fit(lb.recipes.fsq_vae(data.spec, channels=4), data, epochs=1, progress=False)
    >>> [(u.classes, u.codes) for u in code_usage(run.model, data.test.matching(run.model.spec))]
    [(125, 716)]
    """
    counts: dict[tuple[int, int], torch.Tensor] = {}
    with inference(model):
        for batch in rows.blocks(_BLOCK):
            _, latents = model.visit(batch, source=mode)
            for group, q in enumerate(latent.q for latent in latents):
                for stage, codes in enumerate(_stages(q)):
                    found = torch.bincount(codes, minlength=q.quantizer.classes)  # pyright: ignore
                    counts[group, stage] = counts.get((group, stage), 0) + found
    if not counts:
        raise Incompatible("a model without codes has no code books", fix="use a recipe of codes, such as vq_vae")
    return tuple(_usage(*where, count) for where, count in counts.items())


def _stages(q: object) -> tuple[torch.Tensor, ...]:
    """Return the codes of each stage, one after the other; none if q is no quantiser's."""
    if not isinstance(q, Quantized):
        return ()
    return tuple(codes.flatten() for codes in q.codes.unbind(len(q.batch_shape)))


def _usage(group: int, stage: int, count: torch.Tensor) -> CodeUsage:
    share = count.double() / count.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    return CodeUsage(group, stage, len(count), int((count > 0).sum()), float(entropy.exp()), int(count.sum()))
