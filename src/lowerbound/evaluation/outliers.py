"""Outlier scores: how unusual a model finds each row, and how well that tells other data from its own."""

import io
import lzma
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, Incompatible, NoDensity, UsageError
from ..core.model import VAE, spec_of
from ..core.noise import Stream, generator
from ..core.rules import check_values
from ..data.dataset import Data, Dataset
from .likelihood import Number, check_samples, distortion_at_code, mean_number, no_density_reason, score, target_of
from .number import stamped
from .ranking import Ranking, ranking

Compressor: TypeAlias = Literal["png", "zlib", "lzma"]
ScoreName: TypeAlias = Literal["elbo", "log_px", "ratio", "typicality", "complexity", "code", "waic", "distortion"]
FORMULAS: dict[ScoreName, str] = {
    "elbo": "-ELBO",
    "log_px": "-log p(x)",
    "ratio": "-[log p(x) - log p_background(x)]",
    "typicality": "|-log p(x) - H|",
    "complexity": "-log p(x) - L(x)",
    "code": "-L(x), no model",
    "waic": "-[mean log p(x) - var log p(x)]",
    "distortion": "-log p(x|z) at the code",
}
"""What each score is; higher means more unusual."""
OBSERVED = "x_observed"
OVERHEAD: dict[Compressor, int] = {"png": 57, "zlib": 6, "lzma": 0}
"""Bytes that say nothing of the image: PNG's signature, header, end and marks of the data; zlib's header and sum."""
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 16}]


@dataclass(frozen=True)
class OutlierScore:
    """One score: how well it finds the outside rows.

    Args:
        name: which.
        ranking: of the outside rows above the inside ones.
        inside: mean over the inside rows, in nats.
        outside: mean over the outside rows, in nats.
    """

    name: ScoreName
    ranking: Ranking
    inside: Number
    outside: Number

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON."""
        means = {"inside": self.inside.to_json(), "outside": self.outside.to_json()}
        return {"formula": FORMULAS[self.name], **self.ranking.to_json(), "mean": means}

    @property
    def inverted(self) -> bool:
        """True if the whole interval of the AUROC lies below one half: outside rows seem the more usual ones."""
        return self.ranking.auroc.high is not None and self.ranking.auroc.high < 0.5

    @property
    def finds(self) -> bool:
        """True if the whole interval of the AUROC lies above one half."""
        return self.ranking.auroc.low is not None and self.ranking.auroc.low > 0.5


@dataclass(frozen=True)
class OutlierReport:
    """Which scores tell rows of other data from a model's own.

    Args:
        scores: those that could be computed.
        left_out: why others could not, by their names.
        inside: name and split of the usual rows.
        outside: name and split of the unusual ones.
        target: what p(x) is; None without a density.
        entropy: H of the typicality in nats; None without it.
        binarisation: how grey values became 0/1.
        num_samples: K.
        seed: of the sampler and the bootstrap.
    """

    scores: tuple[OutlierScore, ...]
    left_out: dict[str, str]
    inside: str
    outside: str
    target: str | None
    entropy: float | None
    binarisation: str
    num_samples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON, the scores by their names, with what `verdict` says."""
        scores = stamped({s.name: s.to_json() for s in self.scores}, binarisation=self.binarisation, seed=self.seed)
        return {**vars(self), "scores": scores, "verdict": list(self.verdict())}

    def __getitem__(self, name: ScoreName) -> OutlierScore:
        for one in self.scores:
            if one.name == name:
                return one
        reason = self.left_out.get(name, f"it is none of {', '.join(FORMULAS)}")
        raise UsageError(f"there is no score {name!r}: {reason}", expected=", ".join(s.name for s in self.scores))

    def verdict(self) -> tuple[str, ...]:
        """Say which scores take the outside rows for the more usual ones, and which repair that."""
        own = [s for s in self.scores if s.name != "code"]
        wrong = [s for s in own if s.inverted]
        right = sorted((s for s in own if s.finds), key=lambda s: -s.ranking.auroc.value)
        lines = []
        if {"elbo", "log_px"} & {s.name for s in wrong}:
            lines.append(
                "the model finds the outside rows likelier than its own (AUROC below one half), as density models do "
                "(Nalisnick et al. 2019, arXiv 1810.09136): do not take a low log p(x) for the sign of an outlier here"
            )
        if wrong:
            lines.append(f"upside down: {', '.join(_with_auroc(s) for s in wrong)}")
        if right:
            lines.append(f"{'repaired by' if wrong else 'found by'}: {', '.join(_with_auroc(s) for s in right)}")
        else:
            more = f"; left out were {', '.join(self.left_out)}" if self.left_out else ""
            lines.append(f"no score here tells the outside rows from the inside ones{more}")
        if OBSERVED in (self.target or ""):
            lines.append("some rows miss cells: a row that misses more has fewer nats to lose, and seems likelier")
        code = [s for s in self.scores if s.name == "code"]
        if code:
            alone = code[0].ranking.auroc
            lines.append(f"-L(x) alone, without a model, has an AUROC of {alone}: what complexity adds is the model's")
        return tuple(lines)

    def __str__(self) -> str:
        head = ["score", "", "AUROC", "AUPRC", "FPR95", "inside", "outside"]
        table = [head] + [
            [
                s.name,
                FORMULAS[s.name],
                str(s.ranking.auroc),
                str(s.ranking.auprc),
                f"{s.ranking.fpr95:.3f}",
                *(_mean(number) for number in (s.inside, s.outside)),
            ]
            for s in self.scores
        ]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
        chance = self.scores[0].ranking.chance
        about = "" if self.target is None else f"; {self.target} importance-sampled, K = {self.num_samples}"
        missing: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            missing.setdefault(reason, []).append(name)
        return "\n".join(
            [
                *lines,
                f"outside: {self.outside}; inside: {self.inside}; binarisation {self.binarisation}{about}",
                f"(95 % intervals; by chance AUROC 0.5, AUPRC {chance:.3f}; FPR95: inside rows flagged where 95 % of "
                "the outside ones are; means in nats)",
                *(f"no {', '.join(names)}: {reason}" for reason, names in missing.items()),
                *self.verdict(),
            ]
        )


def outliers(
    model: VAE,
    inside: Dataset,
    outside: Dataset,
    *,
    reference: Dataset | None = None,
    background: VAE | None = None,
    ensemble: Sequence[VAE] = (),
    num_samples: int = 100,
    seed: int = 0,
    resamples: int = 1000,
) -> OutlierReport:
    """Return how well the scores of a model tell rows of other data from its own; see `outlier_scores`.

    Both groups are brought into the form the model was trained on, binarised by the same protocol. The means and
    the rankings count all rows alike, whatever weights they have.

    Args:
        model: a trained model.
        inside: held-out rows of what it was trained on, such as `data.test`.
        outside: rows of other data.
        reference: rows whose mean of -log p(x) is the typicality's H: training or validation rows.
        background: a second model, for the likelihood ratio.
        ensemble: models like the first, trained from other seeds, for WAIC.
        num_samples: K of the importance-sampled log p(x).
        seed: of the sampler and of the bootstrap.
        resamples: bootstrap samples of the interval of the average precision.

    Raises:
        UsageError: if K < 1, or a model does not know its data.
        DataError: if rows do not fit the model, or there are none.
        ShapeError: if they have another shape.
        Incompatible: if another model's log p is about something else.
        NoDensity: if the model has a density, and another one has none.
    """
    check_samples(num_samples)
    groups = [rows_for(model, rows) for rows in (inside, outside)]
    entropy = None
    if reference is not None and model.has_density:
        entropy = mean_nll(model, reference, num_samples=num_samples, seed=seed)
    made = [
        outlier_scores(
            model, rows, entropy=entropy, background=background, ensemble=ensemble, num_samples=num_samples, seed=seed
        )
        for rows in groups
    ]
    left_out = _left_out(model, groups, entropy, background, ensemble)
    scores: list[OutlierScore] = []
    both: list[ScoreName] = [name for name in made[0] if name in made[1]]
    for name in both:
        usual, unusual = made[0][name], made[1][name]
        bad = int(usual.isnan().sum() + unusual.isnan().sum())
        if bad:
            left_out[name] = f"{bad} rows have a score that is no number"
            continue
        ranked = ranking(usual, unusual, resamples=resamples, seed=seed)
        scores.append(OutlierScore(name, ranked, _mean_of(name, usual), _mean_of(name, unusual)))
    if not scores:
        raise DataError("no score is a number on all rows", expected="finite densities", fix="see lowerbound score RUN")
    return OutlierReport(
        scores=tuple(scores),
        left_out=left_out,
        inside=_called(inside),
        outside=_called(outside),
        target=_target(model, groups) if model.has_density else None,
        entropy=entropy,
        binarisation=groups[0].spec.binarize,
        num_samples=num_samples,
        seed=seed,
    )


def _target(model: VAE, groups: Sequence[Dataset]) -> str:
    """Name what the rows of both groups are scored by: log p(x_observed) where any of them misses cells."""
    found = [target_of(model, rows) for rows in groups]
    return next((target for target in found if OBSERVED in target), found[0])


def outlier_scores(
    model: VAE,
    data: Dataset,
    *,
    entropy: float | None = None,
    background: VAE | None = None,
    ensemble: Sequence[VAE] = (),
    num_samples: int = 100,
    seed: int = 0,
) -> dict[ScoreName, Tensor]:
    r"""Return scores of each row by name, `[N]` float64 each; higher means more unusual.

    - elbo: -ELBO, and log_px: -log p(x), importance-sampled, in nats.
    - ratio: -[log p(x) - log p_b(x)], where the background model b learned what all images have in common, such as
      their smoothness, from the same images with pixels replaced at random (`mutated`), in nats (Ren et al. 2019,
      arXiv 1906.02845).
    - typicality: |-log p(x) - H|, H the mean of -log p over rows of the model's own data, in nats: also what is
      likelier than these is unusual (Nalisnick et al. 2019, arXiv 1906.02994, here for single rows, M = 1).
    - complexity: -log p(x) - L(x), L(x) the length in nats of a lossless code of the image (Serra et al. 2020, arXiv
      1909.11480, there in bits): a universal model takes the background's place. A code of 0/1 pixels is several
      times longer than -log p(x), and that of a density lies elsewhere: then the score is little but -L(x).
    - code: -L(x), which no model had a part in: what complexity is to be compared with.
    - waic: -[mean_m log p_m(x) - var_m log p_m(x)] over the models m of an ensemble, the variance with 1 / (M - 1)
      (Choi et al. 2018, arXiv 1810.01392); it adds nats and squared nats, as the authors do.
    - distortion: -log p(x|z) at the code, in nats: all that a model without density has.

    Args:
        model: a trained model.
        data: rows; brought into the model's form.
        entropy: H in nats, by `mean_nll`; None leaves typicality out.
        background: None leaves the ratio out.
        ensemble: models beside the first; none leave WAIC out.
        num_samples: K.
        seed: seed of the sampler.

    Raises:
        UsageError: if K < 1, or a model does not know its data.
        DataError: if rows do not fit the model.
        ShapeError: if they have another shape.
        Incompatible: if another model's log p is about something else.
        NoDensity: if the model has a density, and another one has none.
    """
    rows = rows_for(model, data)
    if not model.has_density:
        return {"distortion": distortion_at_code(model, rows)}
    for other, name in [(background, "the background model"), *((m, "a model of the ensemble") for m in ensemble)]:
        if other is not None:
            _check_comparable(model, rows, other, data, name)

    def log_p(other: VAE) -> Tensor:
        return score(other, rows_for(other, data), num_samples=num_samples, seed=seed).log_px

    own = score(model, rows, num_samples=num_samples, seed=seed)
    found: dict[ScoreName, Tensor] = {"elbo": own.distortion + own.rate, "log_px": -own.log_px}
    if background is not None:
        found["ratio"] = log_p(background) - own.log_px
    if entropy is not None:
        found["typicality"] = (-own.log_px - entropy).abs()
    if no_code_reason(rows) is None:
        length = code_length(rows)
        found |= {"complexity": -own.log_px - length, "code": -length}
    if ensemble:
        each = torch.stack([own.log_px, *(log_p(other) for other in ensemble)])
        found["waic"] = each.var(0) - each.mean(0)
    return found


def mean_nll(model: VAE, data: Dataset, *, num_samples: int = 100, seed: int = 0) -> float:
    """Return the mean of -log p(x) in nats: the cross-entropy H that typicality measures from.

    Args:
        model: a trained model.
        data: rows of its own data; brought into the model's form.
        num_samples: K.
        seed: seed of the sampler.

    Raises:
        NoDensity: if the model has no density.
        DataError: if rows do not fit the model.
    """
    return -float(score(model, rows_for(model, data), num_samples=num_samples, seed=seed).log_px.mean())


def mutated(data: Data, share: float = 0.2, *, seed: int = 0) -> Data:
    """Return images of which each value is replaced with probability `share` by a level drawn with equal chances.

    A model trained on them serves as the background of the likelihood ratio (Ren et al. 2019, arXiv 1906.02845). Values
    are drawn once, on the CPU, so that every epoch sees the same. It is meant for models of grey levels: where pixels
    are binarised, the noise that the background expects costs flat images most, and can turn the ratio upside down.

    Args:
        data: images of whole levels, such as 8-bit ones.
        share: the chance of each value to be replaced.
        seed: decides which, and by what.

    Raises:
        UsageError: if the share is none, or the data are no images of whole levels.

    >>> from lowerbound import load_data
    >>> digits = load_data("digits")
    >>> noisy = mutated(digits, 0.2)
    >>> changed = (noisy.train.x != digits.train.x).float().mean()  # 0.2 times 16 of 17 levels
    >>> round(changed.item(), 2)
    0.19
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share} of the pixels cannot be replaced", expected="above 0, up to 1")
    parts = {
        name: _mutated(getattr(data, name), share, generator(Stream.SHOWN, seed, place))
        for place, name in enumerate(("train", "valid", "test"))
    }
    return replace(data, **parts, origin=None)


def rows_for(model: VAE, data: Dataset) -> Dataset:
    """Return rows as the model wants them, on its device; labels that it does not read may be those of other data.

    Raises:
        UsageError: if the model does not know its data.
        DataError: if the rows do not fit the model, or there are none.
        ShapeError: if they have another shape.
    """
    spec = spec_of(model)
    if not len(data):
        raise DataError(f"{data.spec.name} has 0 {data.split} examples", expected="at least 1")
    if not model.conditional:
        data = replace(data, y=None, spec=replace(data.spec, classes=()))
    rows = data.matching(spec)
    check_values(model.decoder.family, rows.support, rows.spec.name)
    return rows.to(model.device)


def code_length(rows: Dataset, compressor: Compressor | None = None) -> Tensor:
    r"""Return L(x), the length of a lossless code of each image, `[N]` float64 in nats.

    L(x) = 8 log(2) times the bytes of the compressed image, less those that say nothing of it (`OVERHEAD`). The image
    has one byte for each value, 0 and 255 where it is binarised.

    Args:
        rows: images of whole levels, as the model wants them.
        compressor: PNG of Pillow, zlib (level 9) or LZMA; None takes the shortest of them, as Serra et al. 2020 do.

    Raises:
        UsageError: if there is no such compressor, or PNG has no such images.
        Incompatible: if the rows are no images of whole levels.

    >>> from lowerbound import load_data
    >>> rows = load_data("digits").test.take(3)
    >>> bool((code_length(rows) <= code_length(rows, "zlib")).all())
    True
    """
    if compressor not in (None, *get_args(Compressor)):
        raise UsageError(f"there is no compressor {compressor!r}", expected=", ".join(get_args(Compressor)))
    reason = no_code_reason(rows)
    if reason is not None:
        raise Incompatible(f"{rows.spec.name} has no lossless code: {reason}")
    images = _bytes_of(rows)
    drawable = images.shape[-1] in (1, 3)
    if compressor == "png" and not drawable:
        raise UsageError(f"PNG has no images of {images.shape[-1]} channels", expected="zlib or lzma")
    every: tuple[Compressor, ...] = get_args(Compressor)
    names: list[Compressor] = [name for name in every if (drawable or name != "png") and compressor in (None, name)]
    sizes = [min(_compressed(image, name) - OVERHEAD[name] for name in names) for image in images]
    return torch.tensor(sizes, dtype=torch.float64) * 8 * math.log(2)


def no_code_reason(rows: Dataset) -> str | None:
    """Say why rows have no lossless code; None if they have one."""
    if rows.spec.kind != "image":
        if rows.spec.kind == "table":
            return "its rows are no images but a table"
        return "its rows are points" if rows.spec.kind == "points" else f"its rows are {rows.spec.kind}s"
    if rows.support != "binary" and not 2 <= rows.spec.levels <= 256:
        return "its pixels are no whole levels"
    return "pixels are missing" if rows.mask is not None else None


def _bytes_of(rows: Dataset) -> np.ndarray:
    """Return images `[N, H, W, C]` of one byte for each value."""
    top = 255 if rows.support == "binary" else rows.spec.levels - 1
    return (rows.values().cpu() * top).round().to(torch.uint8).movedim(1, -1).contiguous().numpy()


def _compressed(image: np.ndarray, compressor: Compressor) -> int:
    if compressor == "zlib":
        return len(zlib.compress(image.tobytes(), 9))
    if compressor == "lzma":
        return len(lzma.compress(image.tobytes(), format=lzma.FORMAT_RAW, filters=_FILTERS))
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG", optimize=True)
    return len(file.getvalue())


def _mutated(rows: Dataset, share: float, draws: torch.Generator) -> Dataset:
    if rows.spec.kind != "image" or not 2 <= rows.scale + 1 <= 256 or rows.x.dtype.is_floating_point:
        raise UsageError(f"pixels of {rows.spec.name} cannot be replaced", expected="images of whole levels")
    x = rows.x[:].cpu()
    replaced = torch.rand(x.shape, generator=draws) < share
    levels = torch.randint(rows.scale + 1, x.shape, generator=draws).to(x.dtype)
    return replace(rows, x=torch.where(replaced, levels, x).to(rows.x.device))


def _check_comparable(model: VAE, rows: Dataset, other: VAE, data: Dataset, name: str) -> None:
    """Raise an error unless log p(x) of the other model is about the same values of the same rows."""
    if not other.has_density:
        raise NoDensity(f"{name} has none: {no_density_reason(other)}", fix="use a variational recipe, such as `vae`")
    facts = [
        ("scores values that are", *(spec_of(m).scored_support for m in (model, other))),
        ("is binarised by", *(spec_of(m).binarize for m in (model, other))),
        ("gives", *("probabilities" if m.decoder.family.discrete else "densities" for m in (model, other))),
        ("is about", target_of(model, rows), target_of(other, rows_for(other, data))),
    ]
    for what, mine, theirs in facts:
        if mine != theirs:
            raise Incompatible(
                f"log p(x) of {name} cannot be set against the model's: it {what} {theirs!r}, not {mine!r}",
                fix="train both with the same likelihood and --binarize",
            )


def _left_out(
    model: VAE, groups: Sequence[Dataset], entropy: float | None, background: VAE | None, ensemble: Sequence[VAE]
) -> dict[str, str]:
    """Return why scores are missing."""
    if not model.has_density:
        return {name: no_density_reason(model) for name in FORMULAS if name != "distortion"}
    missing = {}
    if background is None:
        missing["ratio"] = "it needs a background model, trained on such rows with noise (--background RUN)"
    if entropy is None:
        missing["typicality"] = "it needs reference rows"
    reasons = [reason for reason in map(no_code_reason, groups) if reason is not None]
    if reasons:
        missing |= {"complexity": reasons[0], "code": reasons[0]}
    if not ensemble:
        missing["waic"] = "it needs runs like this one of other seeds (--ensemble RUN ...)"
    return missing


def _mean_of(name: ScoreName, values: Tensor) -> Number:
    share = torch.full((len(values),), 1 / len(values), dtype=torch.float64)
    if name in ("elbo", "log_px"):
        return mean_number(values, share, kind="bound", side="upper")
    return mean_number(values, share, kind="exact" if name == "distortion" else "estimate")


def _called(rows: Dataset) -> str:
    return f"{len(rows):,} {'' if rows.split == 'all' else rows.split + ' '}examples of {rows.spec.name}"


def _with_auroc(one: OutlierScore) -> str:
    return f"{one.name} {one.ranking.auroc.value:.3f}"


def _mean(number: Number) -> str:
    return "-" if number.value is None else f"{number.value:.2f}"
