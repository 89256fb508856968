"""Corruptions for denoising: modules from x to what the encoder sees; each call draws new noise."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.record import recorded

CorruptionName: TypeAlias = Literal["gaussian", "mask", "salt-and-pepper", "multiply-add"]


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"a share of pixels cannot be {value}", expected="0 to 1")
    return value


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


def corruption(name: CorruptionName, amount: float) -> nn.Module:
    """Return the corruption called `name`; `amount` is its scale or share, unused by "multiply-add".

    Raises:
        UsageError: if there is none of that name, or the amount is out of range.
    """
    makers = {"gaussian": GaussianNoise, "mask": Mask, "salt-and-pepper": SaltAndPepper}
    if name == "multiply-add":
        return MultiplyAdd()
    if name not in makers:
        raise UsageError(f"there is no corruption {name!r}", expected=", ".join([*makers, "multiply-add"]))
    return makers[name](amount)
