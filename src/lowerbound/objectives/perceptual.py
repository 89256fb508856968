"""Perceptual loss: reconstructions are compared in the features of a fixed network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..core.distribution import wide
from ..core.record import recorded
from .distances import DistanceObjective


@recorded
class Perceptual(DistanceObjective):
    r"""weight sum_l |f_l(x) - f_l(E[x|z])|^2 / 2 + KL(q || p), with features f that do not learn.

    Hou et al. 2017, "Deep Feature Consistent Variational Autoencoder", arXiv 1610.00291, sec. 3; there each layer is
    divided by its number of values, which `weight` may do here. Each square is -log N(f(x); f(E[x|z]), I) up to its
    constant, but of features and not of x, so nothing here bounds log p(x).

    Args:
        features: a recorded module from x `[N, *event]` to one tensor, or to several. Its weights are kept as they are
            built: recipes build it anew from its arguments, so weights it did not draw itself must come with these.
        weight: weight of the squared distance.

    Raises:
        UsageError: if the weight is negative.

    >>> from lowerbound.networks import ConvEncoder
    >>> objective = Perceptual(ConvEncoder((1, 8, 8), (16,), channels=(4,)))
    >>> objective.monitor, list(objective.parameters())
    ('perceptual_loss', [])
    """

    monitor = "perceptual_loss"

    def __init__(self, features: nn.Module, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.features = _frozen(features)

    def train(self, mode: bool = True) -> "Perceptual":  # noqa: FBT001, FBT002  (torch's signature)
        """Set the mode; the features stay in evaluation mode, so that they are one fixed function."""
        super().train(mode)
        self.features.eval()
        return self

    def distance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return half the squared distance of the features, summed over layers, `[B]`."""
        pairs = zip(_layers(self.features(x)), _layers(self.features(mean)), strict=True)
        return torch.stack([0.5 * (a - b).square().flatten(1).sum(1) for a, b in pairs]).sum(0)


def _layers(features: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [wide(f) for f in ([features] if isinstance(features, Tensor) else features)]


def _frozen(module: nn.Module) -> nn.Module:
    """Make every parameter of `module` a buffer of the same name: saved with it, moved by no optimiser."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module.eval()
