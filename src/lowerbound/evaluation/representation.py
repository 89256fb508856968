"""What the codes of a model are good for: probes of the label, known factors, and p(y|x) where y is a condition."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.model import VAE, Network, inference, spec_of
from ..data.dataset import Data, Dataset
from ..data.sprites import factors
from .aggregate import top_of
from .disentanglement import Disentanglement, Predictor, disentanglement
from .generative_classifier import GenerativeClassification, generative_classifier, refusal
from .importance import Units
from .probes import NEIGHBOURS, Probes, probe

ROWS = 1000


@dataclass(frozen=True)
class Representation:
    """What the codes of a model are good for; None with a reason where a question makes no sense.

    Args:
        probes: what simple methods read of the label off the codes' means.
        disentanglement: single dimensions of the means against known factors, over all rows of all splits.
        classes: how well p(y|x) of a conditional model says the class.
        reasons: why what is None does not exist, by its name.
        split: the test rows.
        seed: of everything that was drawn.
    """

    probes: Probes | None
    disentanglement: Disentanglement | None
    classes: GenerativeClassification | None
    reasons: dict[str, str]
    split: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields; see those of the parts."""
        parts = {"probes": self.probes, "disentanglement": self.disentanglement, "classes": self.classes}
        found = {name: None if part is None else part.to_json() for name, part in parts.items()}
        return {**found, "reasons": dict(self.reasons), "split": self.split, "seed": self.seed}

    def __str__(self) -> str:
        parts = [str(part) for part in (self.probes, self.disentanglement, self.classes) if part is not None]
        return "\n".join([*parts, *(f"{name:<13} -          ({why})" for name, why in self.reasons.items())])


def representation(
    model: VAE,
    data: Data,
    *,
    test: Dataset | None = None,
    num_samples: int = 100,
    k: int = NEIGHBOURS,
    by: Predictor = "forest",
    seed: int = 0,
    units: Units = "data",
) -> Representation:
    """Measure what the codes of a model are good for, as far as data and model allow it.

    Codes are means of the top posterior q(z|x). Where the encoder itself reads the label there is nothing to probe, and
    the model is asked for p(y|x) instead.

    Args:
        model: a trained model.
        data: what it was trained on, or the like: probes learn from the training rows.
        test: rows to test on; None takes the test rows of `data`.
        num_samples: K of log p(x|y), for each class.
        k: number of nearest neighbours.
        by: what predicts the factors in DCI; see `dci`.
        seed: decides what is drawn.
        units: whose units log p(x) is in; see `score`.

    Raises:
        DataError: if the data do not fit the model, or there are no test rows.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> found = representation(lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)).build(0)[0], data)
    >>> found.probes.linear.n, sorted(found.reasons)
    (179, ['classes', 'disentanglement'])
    """
    spec = spec_of(model)
    train, held, rows = (
        part.matching(spec).to(model.device) for part in (data.train, test or data.test, data.split("all"))
    )
    if not len(held):
        raise DataError(f"{held.spec.name} has 0 {held.split} examples", expected="another split")
    reasons = _reasons(model, train, held)
    probes = measured = classes = None
    if "probes" not in reasons:
        probes = probe(codes_of(model, train), _labels(train), codes_of(model, held), _labels(held), k=k, seed=seed)
    if "disentanglement" not in reasons:
        measured = disentanglement(codes_of(model, rows), factors(rows), by=by, seed=seed)
    if "classes" not in reasons:
        classes = generative_classifier(model, train, held, num_samples=num_samples, seed=seed, units=units)
    return Representation(probes, measured, classes, reasons, held.split, seed)


def codes_of(model: VAE, rows: Dataset) -> Tensor:
    """Return the mean of the top posterior of each row, `[N, D]` float64 on the CPU.

    Args:
        model: a model.
        rows: as the model wants them (`Dataset.matching`).
    """
    with inference(model):
        parts = [
            model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask).mean.flatten(1).double()
            for batch in rows.to(model.device).blocks(ROWS)
        ]
    return torch.cat(parts).cpu()


def _reasons(model: VAE, train: Dataset, held: Dataset) -> dict[str, str]:
    """Return why a part cannot be measured, by its name."""
    found = {}
    unlabelled = train.y is None or held.y is None
    reads_label = any(isinstance(m, Network) and m.condition for m in model.encoder.modules())
    if unlabelled or len(train.spec.classes) < 2:
        found["probes"] = f"{held.spec.name} has no labels to probe for"
    if reads_label:
        found["probes"] = found["disentanglement"] = "the encoder reads the label, so codes are not of x alone"
    elif train.spec.name != "sprites":
        found["disentanglement"] = f"the factors of {train.spec.name} are not known: see `lb.load_data('sprites')`"
    elif prod(top_of(model).posterior_family.event_shape) == 1:
        found["disentanglement"] = "a code of one dimension cannot be disentangled"
    refused = refusal(model)
    if refused is not None:
        found["classes"] = str(refused).splitlines()[0]
    elif unlabelled:
        found["classes"] = f"{held.spec.name} has no labels"
    return found


def _labels(rows: Dataset) -> Tensor:
    assert rows.y is not None
    return rows.y.cpu()
