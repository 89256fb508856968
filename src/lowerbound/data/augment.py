"""Augmentation of training images: small random shifts, rotations, flips and crops, one draw for each image."""

import math
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.recipe import AugmentName
from ..core.record import recorded

AUGMENTATIONS: tuple[AugmentName, ...] = get_args(AugmentName)


@recorded
class Augment(nn.Module):
    """Each image flipped with chance 1/2, then rotated, cropped and shifted in one bilinear resampling.

    What enters from outside is the nearest pixel of the border. Noise comes from torch's default generator; values
    stay in each image's range, but images of 0 and 1 get greys, unless "flip" is alone.

    Args:
        names: what to do, of "shift", "rotate", "flip" and "crop".
        shift: largest shift, as a share of the height and of the width.
        rotate: largest angle in degrees, either way.
        crop: smallest share of the sides that is kept; the window has the image's proportions and is scaled up to it.

    Raises:
        UsageError: if there are no names or unknown ones, or an amount is out of range.
    """

    def __init__(
        self, names: tuple[AugmentName, ...], *, shift: float = 0.1, rotate: float = 10.0, crop: float = 0.8
    ) -> None:
        super().__init__()
        for name in names or ("",):
            if name not in AUGMENTATIONS:
                what = f"there is no augmentation {name!r}" if name else "no augmentation is named"
                raise UsageError(what, expected=", ".join(AUGMENTATIONS))
        if not 0 <= shift <= 1:
            raise UsageError(f"images cannot be shifted by {shift} of their size", expected="0 to 1")
        if not 0 <= rotate <= 180:
            raise UsageError(f"images cannot be rotated by up to {rotate} degrees", expected="0 to 180")
        if not 0 < crop <= 1:
            raise UsageError(f"images cannot be cropped to {crop} of their sides", expected="above 0, up to 1")
        self.names = names
        self.shift = shift if "shift" in names else 0.0
        self.rotate = rotate if "rotate" in names else 0.0
        self.crop = crop if "crop" in names else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the images `[N, C, H, W]` augmented, same shape and type.

        Raises:
            UsageError: if x is no float tensor of 4 axes.
        """
        if x.ndim != 4 or not x.is_floating_point():
            raise UsageError(
                f"augmentation needs images, not {x.dtype} of shape {tuple(x.shape)}", expected="floats (N, C, H, W)"
            )
        draws = torch.rand(7, len(x), device=x.device)  # all of them always: names do not move each other's draws
        if "flip" in self.names:  # by index, so that it is exact
            x = torch.where(draws[0, :, None, None, None] < 0.5, x.flip(-1), x)
        if set(self.names) == {"flip"} or not x.numel():
            return x
        spread = 2 * draws[1:] - 1
        angle = spread[0] * math.radians(self.rotate)
        kept = 1 - (1 - self.crop) * draws[2]
        # in units of half a side: the window moves within the image, then by a share of its own size
        centre = (1 - kept) * spread[2:4] + 2 * self.shift * kept * spread[4:6]
        return warp(x, angle, kept, centre)


def warp(x: Tensor, angle: Tensor, kept: Tensor, centre: Tensor) -> Tensor:
    """Return images `[N, C, H, W]` resampled: each shows a window of its own, scaled to the full size.

    Args:
        x: images `[N, C, H, W]`.
        angle: angle of the window `[N]` in radians, clockwise as seen; what it shows turns the other way.
        kept: sides of the window `[N]` as a share of the image's.
        centre: centre of the window `[2, N]`, across and down; -1 and 1 are the borders.
    """
    height, width = x.shape[-2:]
    cos, sin = kept * angle.cos(), kept * angle.sin()
    # a turn in pixels, in coordinates whose unit is half the width across and half the height down
    rows = (cos, -sin * height / width, centre[0], sin * width / height, cos, centre[1])
    theta = torch.stack(rows, -1).reshape(-1, 2, 3).to(x.dtype)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # rounding can carry a value out of [0, 1]
    return moved.clamp(x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True))
