"""Corruptions for denoising: modules from x to what the encoder sees; each call draws what is random anew."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.record import recorded

CorruptionName: TypeAlias = Literal["gaussian", "mask", "salt-and-pepper", "multiply-add", "blur", "haze"]


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"a share of pixels cannot be {value}", expected="0 to 1")
    return value


def _images(x: Tensor, name: str) -> None:
    if x.ndim < 4:
        raise UsageError(f"{name} needs images, not values of shape {tuple(x.shape)}", expected="(N, C, H, W)")


@recorded
class GaussianNoise(nn.Module):
    """x + scale * eps, eps ~ N(0, I), not clipped."""

    def __init__(self, scale: float = 0.3) -> None:
        super().__init__()
        if not 0 <= scale < float("inf"):
            raise UsageError(f"the scale of the noise cannot be {scale}", expected="0 or more")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return x with noise, same shape."""
        return x + self.scale * torch.randn_like(x)


@recorded
class Mask(nn.Module):
    """Each value set to 0 with probability `share`."""

    def __init__(self, share: float = 0.3) -> None:
        super().__init__()
        self.share = _share(share)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with holes, same shape."""
        return x * (torch.rand_like(x) >= self.share)


@recorded
class SaltAndPepper(nn.Module):
    """Each value replaced with probability `share` by 0 or 1, with equal chance."""

    def __init__(self, share: float = 0.3) -> None:
        super().__init__()
        self.share = _share(share)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with salt and pepper, same shape."""
        chance = torch.rand_like(x)
        return torch.where(chance < self.share, (chance < self.share / 2).to(x.dtype), x)


@recorded
class MultiplyAdd(nn.Module):
    """x * m + b with m, b ~ Bernoulli(1/2) for each value: half the values lost, half raised by 1, up to 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x * m + b, same shape."""
        m, b = torch.randint(0, 2, (2, *x.shape), device=x.device).to(x.dtype)
        return x * m + b


@recorded
class Blur(nn.Module):
    """Gaussian blur of images, cut off at 3 sigma; beyond the border lies the nearest pixel of it.

    Args:
        sigma: standard deviation in pixels; 0 leaves images alone.

    Raises:
        UsageError: if sigma is out of range.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not 0 <= sigma <= 100:  # a wider one is a slip, and its kernel would eat the memory
            raise UsageError(f"the sigma of a blur cannot be {sigma} pixels", expected="0 to 100")
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Return images `[N, C, H, W]` blurred, same shape.

        Raises:
            UsageError: if x has fewer than 4 axes.
        """
        _images(x, "blur")
        radius = math.ceil(3 * self.sigma)
        if not radius:
            return x.clone()
        steps = torch.arange(-radius, radius + 1, dtype=torch.float64, device=x.device)
        # as a softmax it sums to 1 however small sigma is
        kernel = torch.softmax(-((steps / self.sigma) ** 2) / 2, 0).to(x.dtype)
        planes = x.reshape(-1, 1, *x.shape[-2:])  # each channel on its own
        # one axis after the other: with both padded at once, a wide kernel would need a far larger image
        across = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel[None, None, None, :])
        both = F.conv2d(F.pad(across, (0, 0, radius, radius), mode="replicate"), kernel[None, None, :, None])
        return both.reshape(x.shape)


@recorded
class Haze(nn.Module):
    """Synthetic haze on images in [0, 1]: x t + A (1 - t), t = exp(-thickness depth).

    The scattering model of Koschmieder 1924, as in Narasimhan & Nayar 2002, "Vision and the Atmosphere". The depth is
    made up, not the scene's: from 0.3 in the bottom row to 1 in the top row, times a factor uniform in [0.5, 1.5] for
    each image. A is `light` plus a shift uniform in [-0.05, 0.05] for each image, clipped to [0, 1].

    Args:
        thickness: optical thickness at depth 1; 0 is clear air.
        light: the light of the air, the grey that far things take on.

    Raises:
        UsageError: if an amount is out of range.
    """

    def __init__(self, thickness: float = 1.0, light: float = 0.9) -> None:
        super().__init__()
        if not 0 <= thickness < float("inf"):
            raise UsageError(f"the thickness of haze cannot be {thickness}", expected="0 or more")
        if not 0 <= light <= 1:
            raise UsageError(f"the light of haze cannot be {light}", expected="0 to 1")
        self.thickness, self.light = thickness, light

    def forward(self, x: Tensor) -> Tensor:
        """Return images `[N, C, H, W]` behind haze, same shape.

        Raises:
            UsageError: if x has fewer than 4 axes.
        """
        _images(x, "haze")
        per_image = (2, len(x), *[1] * (x.ndim - 1))
        depth, light = torch.rand(per_image, dtype=x.dtype, device=x.device)
        down = torch.linspace(1, 0.3, x.shape[-2], dtype=x.dtype, device=x.device)[:, None]
        t = torch.exp(-self.thickness * (0.5 + depth) * down)
        air = (self.light + 0.1 * (light - 0.5)).clamp(0, 1)
        return x * t + air * (1 - t)


def corruption(name: CorruptionName, amount: float) -> nn.Module:
    """Return the corruption called `name`; `amount` is its scale, share, sigma or thickness.

    "multiply-add" has no amount.

    Raises:
        UsageError: if there is none of that name, or the amount is out of range.
    """
    makers = {
        "gaussian": GaussianNoise,
        "mask": Mask,
        "salt-and-pepper": SaltAndPepper,
        "blur": Blur,
        "haze": Haze,
    }
    if name == "multiply-add":
        return MultiplyAdd()
    if name not in makers:
        raise UsageError(f"there is no corruption {name!r}", expected=", ".join([*makers, "multiply-add"]))
    return makers[name](amount)
