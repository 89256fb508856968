"""Denoising: corrupted rows, what a model makes of them, and how near that is to the clean ones (PSNR, SSIM)."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, ShapeError
from ..core.model import VAE, inference
from ..core.noise import Stream, seeded
from ..core.walk import mode
from ..data.dataset import Dataset

SIGMA = 1.5  # of the Gaussian window, in pixels (Wang et al. 2004)
WINDOW = 11
_ROWS = 500
NOISE_ROWS = 100  # rows whose noise is drawn together


@dataclass(frozen=True)
class Restoration:
    """Likeness of images to the clean ones, each float64 `[N]`; higher is better.

    Args:
        psnr: peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error); infinite for equal images.
        ssim: structural similarity, 1 for equal images.
        window: side of SSIM's window in pixels: 11, or less for images smaller than that.
    """

    psnr: Tensor
    ssim: Tensor
    window: int

    def to_json(self) -> dict[str, Any]:
        """Return mean and standard error over the images of both, with SSIM's window."""
        return {"psnr": mean_se(self.psnr), "ssim": mean_se(self.ssim), "window": self.window}


def corrupted(rows: Dataset, corruption: nn.Module, *, seed: int = 0) -> Dataset:
    """Return rows whose encoder sees `corruption(x)`, drawn on the CPU by seed and place alone.

    Args:
        rows: clean rows as the model wants them (`Dataset.matching`).
        corruption: a module from x to what the encoder sees.
        seed: seed of the noise.

    Raises:
        ShapeError: if the corruption changes the shape.
    """
    seen = []
    for block, batch in enumerate(rows.blocks(NOISE_ROWS)):
        with seeded(Stream.SHOWN, seed, block), torch.no_grad():
            seen.append(corruption(batch.x.cpu()))
    noisy = torch.cat(seen).to(rows.x.device)
    if noisy.shape != rows.x.shape:
        raise ShapeError(f"the corruption made {tuple(noisy.shape)} of {tuple(rows.x.shape)}", expected="the same")
    return replace(rows, seen=noisy, seen_scale=1)


def denoised(model: VAE, rows: Dataset) -> Tensor:
    """Return the mean of p(x|z) at the mean of q(z|what is seen) for each row, `[N, *shape]` on the CPU.

    Args:
        model: a trained model.
        rows: rows as the model wants them, with `seen`.
    """
    made = []
    with inference(model):
        for batch in rows.to(model.device).blocks(_ROWS):
            made.append(model(batch, 1, mode).px.mean[0].cpu())
    return torch.cat(made)


def restoration(images: Tensor, clean: Tensor) -> Restoration:
    """Compare images `[N, C, H, W]` with as many clean ones, each with its own; values beyond 0..1 are clipped first.

    SSIM is Wang et al. 2004, "Image Quality Assessment", IEEE TIP 13: a Gaussian window of 11 x 11 pixels and sigma
    1.5, K1 = 0.01, K2 = 0.03, range 1; the mean over the places where the window lies inside the image, and over the
    channels. Images smaller than 11 pixels get the largest odd window that fits, and sigma in proportion: such numbers
    are not to be compared with those of larger images.

    Raises:
        ShapeError: if these are no images of one shape.
        DataError: if there are none, or a value is not finite.
    """
    if images.shape != clean.shape or images.ndim != 4:
        raise ShapeError(f"images of shape {tuple(images.shape)} have no clean ones", expected=f"{tuple(clean.shape)}")
    if 0 in images.shape:
        raise DataError(f"images of shape {tuple(images.shape)} have no PSNR", expected="at least one pixel")
    for name, values in (("images", images), ("clean images", clean)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise DataError(f"{bad} values of the {name} are not finite: they have no PSNR")
    window = window_for(images.shape[-2], images.shape[-1])
    pairs = zip(images.split(_ROWS), clean.split(_ROWS), strict=True)
    parts = [(_psnr(a, b), _ssim(a, b, window)) for a, b in ((_unit(a), _unit(b)) for a, b in pairs)]
    psnr, ssim = (torch.cat(column) for column in zip(*parts, strict=True))
    return Restoration(psnr, ssim, window)


def window_for(height: int, width: int) -> int:
    """Return the side of SSIM's window: 11, or the largest odd number of pixels that fits.

    >>> window_for(28, 30), window_for(8, 9)
    (11, 7)
    """
    side = min(height, width, WINDOW)
    return side if side % 2 else side - 1


def mean_se(values: Tensor) -> dict[str, float | None]:
    """Return mean and standard error of the mean of values `[N]`; None for what is no finite number."""
    mean = float(values.mean())
    se = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return {"mean": mean if math.isfinite(mean) else None, "se": se if math.isfinite(se) else None}


def _unit(images: Tensor) -> Tensor:
    return images.detach().cpu().double().clamp(0, 1)


def _psnr(images: Tensor, clean: Tensor) -> Tensor:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    each: Any = peak_signal_noise_ratio(images, clean, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return each


def _ssim(images: Tensor, clean: Tensor, window: int) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure

    # torchmetrics makes its window int(3.5 sigma + 0.5) pixels wide to each side: 11 for sigma 1.5, `window` for this
    # float32 is much faster than float64 here, and right to 0.0003 even for flat images (tested)
    _, places = structural_similarity_index_measure(
        images.float(),
        clean.float(),
        sigma=SIGMA * window / WINDOW,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = window // 2  # there the window saw pixels mirrored at the border
    return places.double()[..., edge : places.shape[-2] - edge, edge : places.shape[-1] - edge].flatten(1).mean(1)
