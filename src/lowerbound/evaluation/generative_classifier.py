"""A conditional model as a classifier, by Bayes' rule: which label makes x likeliest, and how sure that is."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ..core.errors import DataError, Incompatible, LowerboundError, NoDensity
from ..core.model import VAE, spec_of
from ..core.noise import mix
from ..data.dataset import Dataset
from .aggregate import top_of
from .importance import Units, check_samples, no_density_reason, score
from .number import Number, mean_number, number_line, shares

BINS = 15
_SUMMED = "log p(x) = log sum_y p(x|y) p(y)"


@dataclass(frozen=True)
class GenerativeClassification:
    """How well p(y|x) of a conditional model says the class of test rows.

    Args:
        accuracy: share of the rows whose likeliest class is theirs.
        majority: accuracy of always saying the class that most training rows have.
        nll: -log p(y|x) of the true class, in nats.
        brier: sum over the classes of (p(c|x) - [y = c])^2, between 0 and 2.
        calibration_error: expected calibration error: mean distance of confidence and accuracy, between 0 and 1.
        log_px: log p(x) with the label summed out, in nats.
        class_shares: p(y), from the training rows.
        bins: of confidence, for the calibration error.
    """

    accuracy: Number
    majority: Number
    nll: Number
    brier: Number
    calibration_error: float
    log_px: Number
    class_shares: tuple[float, ...]
    bins: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields; see `Number` for theirs."""
        found = {k: v.to_json() if isinstance(v, Number) else v for k, v in vars(self).items()}
        return found | {"class_shares": list(self.class_shares)}

    def __str__(self) -> str:
        named = [
            ("accuracy", self.accuracy, "of 1"),
            ("majority", self.majority, "of 1"),
            ("nll of class", self.nll, "nats"),
            ("brier", self.brier, "of 2"),
            ("log_px", self.log_px, "nats"),
        ]
        error = f"{'calibration':<13} {self.calibration_error:9.3f}  (of 1, expected error in {self.bins} bins)"
        return "\n".join(["classes by p(y|x)", *(number_line(*line) for line in named), error])


def generative_classifier(
    model: VAE, train: Dataset, test: Dataset, *, num_samples: int = 100, seed: int = 0, units: Units = "data"
) -> GenerativeClassification:
    """Classify test rows by p(y|x) = p(x|y) p(y) / sum_c p(x|c) p(c), with the classes' shares of the training rows.

    log p(x|c) is importance-sampled for every class c, K samples of q(z|x, c) each (`score`). The expected calibration
    error is sum_b n_b / N |accuracy_b - confidence_b| over equally wide bins of the confidence max_c p(c|x) (Guo et al.
    2017, arXiv 1706.04599, eq. 3); it is too high for few rows. Brier 1950, "Verification of forecasts expressed in
    terms of probability", Monthly Weather Review 78, eq. 2.

    Args:
        model: a trained model of p(x|y).
        train: training rows, which say p(y), as the model wants them (`Dataset.matching`).
        test: rows to classify, likewise, with labels.
        num_samples: K, for each class.
        seed: seed of the sampler.
        units: whose units log p(x) is in; see `score`. The classes do not depend on them.

    Raises:
        Incompatible: if there is no p(x|y).
        NoDensity: if the model has no density.
        DataError: if rows have no label, or there are none.
        UsageError: if K < 1.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> model = lb.recipes.cvae(data.spec, latent_dim=2, hidden=(8,)).build(0)[0]
    >>> train, test = (rows.matching(model.spec) for rows in (data.train, data.test.take(20)))
    >>> found = generative_classifier(model, train, test, num_samples=2)
    >>> found.accuracy.n, len(found.class_shares), found.log_px.target
    (20, 10, 'log p(x) = log sum_y p(x|y) p(y)')
    """
    for rows in (train, test):
        if rows.y is None or not len(rows):
            raise DataError(f"{rows.spec.name} has no labelled {rows.split} rows", expected="a label for each row")
    share, log_prior = shares(test), class_shares(train).log()
    log_px, variance = class_log_px(model, test, num_samples=num_samples, seed=seed, units=units)
    joint = log_px + log_prior
    total = joint.logsumexp(1)
    log_p = joint - total[:, None]
    truth = torch.nn.functional.one_hot(_labels(test), joint.shape[1]).double()
    p, nll = log_p.exp(), -log_p[truth.bool()]
    right = (p.argmax(1) == _labels(test)).double()
    sampled: dict[str, Any] = {"num_samples": num_samples}

    def sampler_error(slope: Tensor) -> float | None:
        """Return the error that the samplers of all classes, which are independent, make of a mean over the rows."""
        moved = math.sqrt(float((share.square()[:, None] * slope.square() * variance).nansum()))
        return moved if num_samples > 1 else None

    return GenerativeClassification(
        accuracy=mean_number(right, share, kind="estimate", target="p(y|x)", **sampled),
        majority=mean_number((_labels(test) == log_prior.argmax()).double(), share, kind="exact"),
        nll=mean_number(nll, share, kind="estimate", target="-log p(y|x)", mc_se=sampler_error(p - truth), **sampled),
        brier=mean_number((p - truth).square().sum(1), share, kind="estimate", target="p(y|x)", **sampled),
        calibration_error=calibration_error(p.amax(1), right, share, bins=BINS),
        log_px=mean_number(total, share, kind="bound", side="lower", mc_se=sampler_error(p), target=_SUMMED, **sampled),
        class_shares=tuple(log_prior.exp().tolist()),
        bins=BINS,
    )


def class_log_px(
    model: VAE, rows: Dataset, *, num_samples: int = 100, seed: int = 0, units: Units = "data"
) -> tuple[Float64[Tensor, "N C"], Float64[Tensor, "N C"]]:
    """Return log p(x|y) of each row for every class y, importance-sampled, and the sampler's variance of each.

    Encoder, prior and decoder all see the candidate y; the rows' own labels are not looked at. The classes' samplers
    are independent.

    Args:
        model: a model of p(x|y).
        rows: as the model wants them (`Dataset.matching`).
        num_samples: K, for each class.
        seed: seed of the sampler.
        units: see `score`.

    Raises:
        Incompatible: if there is no p(x|y).
        NoDensity: if the model has no density.
        UsageError: if K < 1.
    """
    check_samples(num_samples)
    spec = spec_of(model)
    refused = refusal(model)
    if refused is not None:
        raise refused
    found = []
    for c in range(spec.num_classes):
        y = torch.full((len(rows),), c, device=rows.x.device)
        supposed = replace(rows, y=y, spec=replace(rows.spec, classes=spec.classes))
        made = score(model, supposed, num_samples=num_samples, seed=mix(seed, c), units=units)
        found.append((made.log_px, made.variance))
    log_px, variance = (torch.stack(each, 1) for each in zip(*found, strict=True))
    return log_px, variance


def class_shares(rows: Dataset) -> Float64[Tensor, " C"]:
    """Return each class's share of labelled rows, `[C]`, by their weights where there are any."""
    return torch.zeros(rows.spec.num_classes, dtype=torch.float64).index_add_(0, _labels(rows), shares(rows))


def calibration_error(confidence: Tensor, right: Tensor, share: Tensor, *, bins: int = BINS) -> float:
    """Return sum_b |sum over the rows in bin b of share (right - confidence)|, with `bins` bins ((b - 1)/B, b/B].

    Args:
        confidence: probability of the class that was said, `[N]`.
        right: 1 where it is the true one, `[N]`.
        share: each row's share in the mean, `[N]`.
        bins: B.

    >>> confidence, right = torch.tensor([0.9, 0.9, 0.6]), torch.tensor([1.0, 0.0, 1.0])
    >>> round(calibration_error(confidence, right, torch.full((3,), 1 / 3), bins=2), 3)  # |2.4 - 2| / 3
    0.133
    """
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, (share * (right - confidence)).double())
    return float(gaps.abs().sum())


def _labels(rows: Dataset) -> Tensor:
    assert rows.y is not None
    return rows.y.cpu()


def refusal(model: VAE) -> LowerboundError | None:
    """Return the error that says why a model has no p(x|y) to classify by, or None if it has one."""
    spec, family = spec_of(model), model.decoder.family
    if not model.conditional:
        top = top_of(model).posterior_family
        if top.discrete and spec.num_classes and tuple(top.event_shape) == (spec.num_classes,):
            return Incompatible(
                "the label of this model is a latent, not a condition: there is no p(x|y) to choose by",
                fix="`encode` gives its own q(y|x)",
            )
        return Incompatible(
            "this model gives p(x), which knows nothing of a label: there is no p(x|y) to choose by",
            fix="use a conditional recipe, such as `cvae`",
        )
    if not model.has_density:
        return NoDensity(no_density_reason(model), fix="use a conditional recipe with a density, such as `cvae`")
    if family.target.startswith("E["):
        return Incompatible(
            f"a {type(family).__name__} scores {family.target}: that is no p(x|y) for Bayes' rule",
            fix="train with a likelihood of the values themselves",
        )
    return None
