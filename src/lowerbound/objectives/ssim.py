"""Structural similarity in place of a likelihood, at one scale or several."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.distribution import contains, wide
from ..core.errors import Incompatible, ShapeError, UsageError
from ..core.model import VAE
from ..core.objective import Outcome
from ..core.record import recorded
from ..core.types import Batch
from .distances import DistanceObjective

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang et al. 2003, sec. 3.2: how much each scale counts, the finest first."""
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]
LEAST = 1e-6  # a similarity below this would have no real power, or an endless slope


@recorded
class SSIM(DistanceObjective):
    r"""weight D (1 - SSIM(x, E[x|z])) + KL(q || p) for images of D values in [0, 1].

    SSIM is the mean over windows of (2 m m' + c1)(2 s_xx' + c2) / ((m^2 + m'^2 + c1)(s^2 + s'^2 + c2)), with means,
    variances and covariance under a Gaussian window, c1 = 0.01^2, c2 = 0.03^2 (Wang et al. 2004, "Image Quality
    Assessment: From Error Visibility to Structural Similarity", eq. 13); as a VAE's reconstruction loss: Snell et al.
    2017, arXiv 1511.06409. With `levels` > 1 it is the product over scales of the contrast part to the power of that
    scale's weight, the coarsest with the whole SSIM (Wang, Simoncelli & Bovik 2003, eq. 7); the weights of fewer than
    five scales are made to sum to 1. Windows lie within the image: nothing is padded. Not a bound.

    Args:
        window: side of the window in pixels, odd; its standard deviation is 1.5 / 11 of it, as in the paper.
        levels: number of scales, 1 to 5; each has half the side of the one before.
        weight: weight of the dissimilarity.

    Raises:
        UsageError: if the window is not odd, the number of levels is not 1 to 5, or the weight is negative.

    >>> SSIM(window=7).monitor
    'ssim_loss'
    """

    monitor = "ssim_loss"

    def __init__(self, window: int = 7, levels: int = 1, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not isinstance(window, int) or window < 3 or window % 2 == 0:
            raise UsageError(f"the window cannot be {window}", expected="an odd number of pixels, 3 or more")
        if levels not in range(1, len(SCALE_WEIGHTS) + 1):
            raise UsageError(f"the number of levels cannot be {levels}", expected=f"1 to {len(SCALE_WEIGHTS)}")
        self.window, self.levels = window, levels

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the loss weight * distance + rate, as the term `ssim_loss` too; missing cells count as equal."""
        self._check(tuple(batch.x.shape[1:]))
        if model.spec is not None and not contains("unit", model.spec.support):
            raise Incompatible(
                f"SSIM cannot be used on {model.spec.name}: its values are {model.spec.support}",
                where="SSIM",
                expected="values in [0, 1], for which its constants are made",
                fix="scale the images to [0, 1], or use an objective with a likelihood",
            )
        return super().forward(model, batch, step)

    def distance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return D (1 - SSIM), `[B]`, between 0 and 2 D."""
        self._check(tuple(x.shape[1:]))
        return x[0].numel() * (1 - similarity(x, mean, self.window, self.levels))

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise ShapeError(
                f"SSIM was given data of shape {shape}",
                expected="images (channels, height, width)",
                fix="use an objective that reads single values, such as ELBO",
            )
        coarsest = min(shape[1:]) // 2 ** (self.levels - 1)
        if coarsest < self.window:
            raise ShapeError(
                f"a window of {self.window} pixels does not fit into {shape[1]} x {shape[2]} images at "
                f"{self.levels} level(s)",
                expected=f"a window of at most {coarsest} pixels",
                fix="choose a smaller window, or fewer levels",
            )


def similarity(x: Tensor, other: Tensor, window: int, levels: int = 1) -> Tensor:
    """Return the structural similarity `[B]` of images `[B, C, H, W]` with values in [0, 1], 1 if they are equal.

    Args:
        x: images.
        other: images of the same shape.
        window: side of the Gaussian window.
        levels: number of scales.

    >>> x = torch.rand(2, 3, 8, 8)
    >>> similarity(x, x, window=7).tolist()
    [1.0, 1.0]
    """
    powers = [w / sum(SCALE_WEIGHTS[:levels]) for w in SCALE_WEIGHTS[:levels]]
    x, other = wide(x), wide(other)
    product = x.new_ones(x.shape[0])
    with torch.autocast(x.device.type, enabled=False):  # variances are small differences
        for level, power in enumerate(powers):
            luminance, contrast = _parts(x, other, window)
            last = level + 1 == levels
            value = (luminance * contrast if last else contrast).flatten(1).mean(1)
            product = product * (value if levels == 1 else value.clamp_min(LEAST) ** power)
            if not last:
                x, other = F.avg_pool2d(x, 2), F.avg_pool2d(other, 2)
    return product


def _parts(x: Tensor, other: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the luminance part, and the contrast and structure part, of each window, `[B, C, H', W']`."""
    # moments around each channel's own mean: E[x^2] - E[x]^2 loses its digits in bright and flat places
    around = [v.mean((-2, -1), keepdim=True) for v in (x, other)]
    a, b = x - around[0], other - around[1]
    m, n, xx, yy, xy = (_smooth(v, window) for v in (a, b, a * a, b * b, a * b))
    variances, covariance = (xx - m * m).clamp_min(0) + (yy - n * n).clamp_min(0), xy - m * n
    m, n = m + around[0], n + around[1]
    luminance = (2 * m * n + C1) / (m * m + n * n + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _smooth(x: Tensor, window: int) -> Tensor:
    """Average each channel under a Gaussian window, where the whole window lies within the image."""
    place = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    weights = torch.softmax(-0.5 * (place / (1.5 * window / 11)).square(), 0)
    depth = x.shape[1]
    rows = F.conv2d(x, weights[None, None, :, None].expand(depth, 1, window, 1), groups=depth)
    return F.conv2d(rows, weights[None, None, None, :].expand(depth, 1, 1, window), groups=depth)
