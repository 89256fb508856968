"""How well a model reconstructs: PSNR, SSIM and MS-SSIM of images, corrupted ones too, and errors of columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import DataError, Incompatible, ShapeError, UsageError
from ..core.model import VAE, spec_of
from ..data.dataset import Dataset
from .likelihood import Number, mean_number, shares
from .number import number_line
from .restoration import WINDOW, corrupted, denoised, restoration, window_for

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales, the finest first (Wang et al. 2003, sec. 3.2)
_ROWS = 500


@dataclass(frozen=True)
class Likeness:
    """Means over the images of how like others they are, with standard errors; higher is better.

    Args:
        psnr: peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error), for pixels in [0, 1].
        ssim: structural similarity, 1 for equal images.
        ms_ssim: the same over several scales.
    """

    psnr: Number
    ssim: Number
    ms_ssim: Number

    def to_json(self) -> dict[str, Any]:
        """Return the means as JSON."""
        return {name: number.to_json() for name, number in vars(self).items()}


@dataclass(frozen=True)
class ReconstructionQuality:
    """How like the clean images reconstructions are.

    Args:
        output: of the reconstructions.
        input: of the corrupted images that the encoder saw; None where it saw the clean ones.
        gain: mean over the images of output less input, paired by image; None without corruption.
        better: share of the images whose PSNR rose; None without corruption.
        against: what the clean images are.
        corruption: what corrupted the images; None if nothing did.
        window: side of SSIM's window in pixels.
        scales: how many MS-SSIM has; with one it is SSIM.
        split: which rows.
        seed: of the noise.
    """

    output: Likeness
    input: Likeness | None
    gain: Likeness | None
    better: float | None
    against: str
    corruption: str | None
    window: int
    scales: int
    split: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the quality as JSON."""
        return {name: v.to_json() if isinstance(v, Likeness) else v for name, v in vars(self).items()}

    def __str__(self) -> str:
        lines = []
        for label, found in (("input", self.input), ("output", self.output), ("gain", self.gain)):
            for name, unit in (("psnr", "dB"), ("ssim", "1 if equal"), ("ms_ssim", f"{self.scales} scales")):
                if found is not None:
                    lines.append(number_line(f"{label:<6} {name:<7}", getattr(found, name), unit))
        seen = "x" if self.corruption is None else f"x corrupted by {self.corruption}"
        lines.append(f"the encoder saw {seen}; compared with {self.against}; mean +- standard error over the images")
        if self.window < WINDOW:
            lines.append(f"the images are small: SSIM's window has {self.window} pixels, not the usual {WINDOW}")
        return "\n".join(lines)


def reconstruction(
    model: VAE, rows: Dataset, *, corruption: nn.Module | None = None, seed: int = 0
) -> ReconstructionQuality:
    """Return how like the clean images the means of p(x|z) are, z the mean of q(z|what is seen).

    With a corruption the encoder sees the corrupted images, which tells how a model does on noise that it was not
    trained on. Pixels are in [0, 1]; what lies beyond is clipped. Binarised pixels: where 0 and 1 were drawn from grey
    values, reconstructions are compared with these, since the mean of p(x|z) is that of the pixels drawn from them; the
    encoder sees the drawn ones, as in training, and a corruption changes those. Where a threshold made them, or they
    came as 0 and 1, they are compared with the 0/1 pixels.

    Args:
        model: a trained model.
        rows: images; brought into the form the model was trained on.
        corruption: a module from x to what the encoder sees, such as `data.corruptions.corruption("blur", 2.0)`.
        seed: of the noise.

    Raises:
        Incompatible: if the rows are no images.
        DataError: if there are none, or they do not fit the model.
        ShapeError: if they have another shape.
        UsageError: if the model does not know its data.
    """
    spec = spec_of(model)
    if spec.kind != "image":
        other = "column_errors tells how well columns are reconstructed" if spec.kind == "table" else ""
        what = "a table" if spec.kind == "table" else spec.kind
        raise Incompatible(f"{rows.spec.name} holds {what}, no images", expected="images, for PSNR and SSIM", fix=other)
    if not len(rows):
        raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected="at least 1")
    rows = rows.matching(spec)
    noisy = rows if corruption is None else corrupted(rows, corruption, seed=seed)
    clean, against = _clean(rows)
    after = _likeness(denoised(model, noisy), clean)
    seen = None if corruption is None else noisy.seen_values()
    before = None if seen is None else _likeness(seen, clean)
    share, scales = shares(rows), scales_for(*clean.shape[-2:])

    def means(of: Callable[[str], Tensor]) -> Likeness:
        return Likeness(*(_mean(name, of(name), share, scales) for name in ("psnr", "ssim", "ms_ssim")))

    return ReconstructionQuality(
        output=means(after.__getitem__),
        input=None if before is None else means(before.__getitem__),
        gain=None if before is None else means(lambda name: after[name] - before[name]),
        better=None if before is None else float(share @ (after["psnr"] > before["psnr"]).double()),
        against=against,
        corruption=None if corruption is None else _named(corruption),
        window=window_for(*clean.shape[-2:]),
        scales=scales,
        split=rows.split,
        seed=seed,
    )


def ms_ssim(images: Tensor, clean: Tensor, *, scales: int | None = None) -> Tensor:
    r"""Return the multi-scale structural similarity of images `[N, C, H, W]` to as many clean ones, `[N]` float64.

    SSIM_M^w_M prod_{j < M} c_j^w_j, where c_j is the mean contrast and structure term at scale j, SSIM_M the SSIM at
    the coarsest, and each scale has half the pixels of the one before, by means of 2 x 2 (Wang, Simoncelli & Bovik
    2003, eq. 7). M = 5 with the authors' weights needs sides of 176 pixels or more: that SSIM's window of 11 lies
    inside the image at each scale. Smaller images have fewer scales, the finest, with weights that sum to 1 again:
    such numbers compare only where the number of scales is the same. Negative terms count as 0.

    Args:
        images: pixels in [0, 1]; what lies beyond is clipped.
        clean: what they are compared with.
        scales: M; None takes as many as fit, 5 at most.

    Raises:
        ShapeError: if these are no images of one shape.
        DataError: if there are none, or a value is not finite.
        UsageError: if there cannot be so many scales.

    >>> image = torch.rand(1, 1, 28, 28)
    >>> scales_for(28, 28), round(ms_ssim(image, image).item(), 4)
    (2, 1.0)
    """
    if images.shape != clean.shape or images.ndim != 4:
        raise ShapeError(f"images of shape {tuple(images.shape)} have no clean ones", expected=f"{tuple(clean.shape)}")
    most = scales_for(*clean.shape[-2:])
    scales = most if scales is None else scales
    if not 1 <= scales <= most:
        raise UsageError(f"images of {clean.shape[-2]} x {clean.shape[-1]} pixels have no {scales} scales",
                         expected=f"1 to {most}")  # fmt: skip
    a, b = (values.detach().cpu().double().clamp(0, 1) for values in (images, clean))
    weights = torch.tensor(WEIGHTS[:scales], dtype=torch.float64)
    weights = weights / weights.sum()
    found = torch.ones(len(a), dtype=torch.float64)
    for weight in weights[:-1]:
        found *= torch.cat([_contrast(*pair) for pair in zip(a.split(_ROWS), b.split(_ROWS), strict=True)]) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return found * restoration(a, b).ssim.clamp_min(0) ** weights[-1]


def scales_for(height: int, width: int) -> int:
    """Return how many of MS-SSIM's 5 scales images have room for; 1 at least.

    >>> scales_for(176, 200), scales_for(64, 64), scales_for(8, 8)
    (5, 3, 1)
    """
    fitting = [m for m in range(1, len(WEIGHTS) + 1) if min(height, width) >> (m - 1) >= WINDOW]
    return max(fitting, default=1)


def column_errors(model: VAE, rows: Dataset) -> dict[str, Number]:
    """Return how well each column of a table is reconstructed by the mean of p(x|z), z the mean of q(z|x).

    For numbers and dates: the root of the mean squared error, in the data's own units (those of `Column.dtype` for
    dates), with its standard error by the delta method. For 0/1 columns and categories: the share of rows whose value
    is the most probable one. Missing cells are left out.

    Args:
        model: a trained model.
        rows: rows of a table; brought into the form the model was trained on.

    Raises:
        Incompatible: if the rows are no table.
        DataError: if there are none, or they do not fit the model.
        UsageError: if the model does not know its data.
    """
    spec = spec_of(model)
    if not spec.modelled:
        raise Incompatible(f"{spec.name} is no table: it has no columns", fix="reconstruction measures images")
    if not len(rows):
        raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected="at least 1")
    rows = rows.matching(spec)
    made, x = denoised(model, rows).double(), rows.values().cpu().double()
    known = rows.mask_values()
    mask = torch.ones_like(x, dtype=torch.bool) if known is None else known.cpu().bool()
    share, found = shares(rows), {}
    for place, column in enumerate(spec.modelled):
        known = mask[:, place]
        if not bool(share[known].any()):
            found[column.name] = Number(None, reason="all cells are missing, or of weight 0")
            continue
        part = share[known] / share[known].sum()
        value, wanted = made[known, place], x[known, place]
        if column.real:
            found[column.name] = _root(mean_number(((value - wanted) * column.scale).square(), part, kind="exact"))
        else:
            value = (value >= 0.5).double() if column.size == 1 else value
            found[column.name] = mean_number((value == wanted).double(), part, kind="exact")
    return found


def _clean(rows: Dataset) -> tuple[Tensor, str]:
    """Return what reconstructions of matched rows are compared with, in [0, 1], and its name."""
    grey = rows.grey_values()
    if grey is not None:
        return grey.cpu().double(), "the grey images that the 0/1 pixels were drawn from"
    return rows.values().cpu().double(), f"the {'0/1' if rows.support == 'binary' else 'clean'} images"


def _likeness(images: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Return PSNR, SSIM and MS-SSIM of each image, `[N]` float64."""
    found = restoration(images, clean)
    return {"psnr": found.psnr, "ssim": found.ssim, "ms_ssim": ms_ssim(images, clean)}


def _mean(name: str, values: Tensor, share: Tensor, scales: int) -> Number:
    if name == "ms_ssim" and scales == 1:
        return Number(None, reason=f"images with sides below {2 * WINDOW} pixels have one scale: it is SSIM")
    found = mean_number(values, share, kind="exact")
    if name == "psnr" and found.value is None:
        return Number(None, reason=f"{int((~torch.isfinite(values)).sum())} images are equal: their PSNR is infinite")
    return found


def _contrast(images: Tensor, clean: Tensor) -> Tensor:
    """Return the contrast and structure term of SSIM, its mean over the places inside each image, `[B]`."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, found = structural_similarity_index_measure(
        images.float(), clean.float(), data_range=1.0, reduction="none", return_contrast_sensitivity=True
    )
    return found.double().clamp_min(0)


def _named(corruption: nn.Module) -> str:
    arguments = getattr(corruption, "_recorded", {})
    return f"{type(corruption).__name__}({', '.join(f'{k}={v}' for k, v in arguments.items())})"


def _root(squared: Number) -> Number:
    """Return the square root of a number with its standard error: d sqrt(m) = dm / (2 sqrt(m))."""
    if squared.value is None:
        return squared
    root = squared.value**0.5
    se = None if squared.se is None or not root else squared.se / (2 * root)
    return Number(root, se, kind=squared.kind, n=squared.n)
