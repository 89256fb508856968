"""What adversarial objectives share: a critic that tells real from made, and its two losses."""

from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.distribution import wide
from ..core.errors import ShapeError, UsageError
from ..core.model import VAE


class Critic(nn.Module):
    r"""A binary classifier whose output is log D(v) / (1 - D(v)); its last hidden layer is a feature of v.

    With `channels` it begins with strided convolutions (Radford et al. 2016, arXiv 1511.06434, sec. 3, without
    batch normalisation, so that one example's output never depends on another).

    Args:
        shape: shape of one value.
        hidden: widths of the linear hidden layers.
        channels: channels after each halving of an image; none for values of any shape.

    Raises:
        UsageError: if a width is not a whole number above 0, or there is no hidden layer.
        ShapeError: if `channels` are given and the values are no images.

    >>> critic = Critic((1, 8, 8), hidden=(16,), channels=(4, 8))
    >>> critic(torch.zeros(5, 1, 8, 8)).shape, critic.features(torch.zeros(5, 1, 8, 8)).shape
    (torch.Size([5]), torch.Size([5, 16]))
    """

    def __init__(self, shape: tuple[int, ...], hidden: tuple[int, ...], channels: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not hidden or any(not isinstance(s, int) or s < 1 for s in (*shape, *hidden, *channels)):
            raise UsageError(
                f"a critic of {tuple(shape)} cannot have the layers {tuple(channels)} and {tuple(hidden)}",
                expected="at least one hidden layer, all sizes whole numbers above 0",
            )
        if channels and len(shape) != 3:
            raise ShapeError(
                f"a convolutional critic was given values of shape {tuple(shape)}",
                expected="(channels, height, width)",
                fix="leave out the critic's channels",
            )
        self.shape = tuple(shape)
        layers: list[nn.Module] = []
        for before, after in pairwise((shape[0], *channels)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2)]
        depth = channels[-1] if channels else shape[0]
        sides = [(side - 1) // 2 ** len(channels) + 1 for side in shape[1:]]  # each layer rounds half a side up
        layers.append(nn.Flatten())
        for before, after in pairwise((depth * prod(sides), *hidden)):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(hidden[-1], 1)

    def features(self, value: Tensor) -> Tensor:
        """Return the last hidden layer `[N, hidden[-1]]` of values `[N, *shape]`."""
        if tuple(value.shape[1:]) != self.shape:
            raise ShapeError(
                f"the critic was given values of shape {tuple(value.shape[1:])}",
                expected=f"{self.shape} for each example",
                fix="build the objective with the shape of what its critic reads",
            )
        return wide(self.body(value))

    def log_odds(self, features: Tensor) -> Tensor:
        """Return the log-odds `[N]` that the values with these features are real ones."""
        return wide(self.head(features))[..., 0]

    def forward(self, value: Tensor) -> Tensor:
        """Return the log-odds `[N]` that each value `[N, *shape]` is a real one."""
        return self.log_odds(self.features(value))


def real_loss(logits: Tensor) -> Tensor:
    """Return -log D in nats for log-odds `logits`: what calling a value made costs if it is real."""
    return F.softplus(-logits)


def made_loss(logits: Tensor) -> Tensor:
    """Return -log(1 - D) in nats for log-odds `logits`: what calling a value real costs if it is made."""
    return F.softplus(logits)


def without(model: VAE, taken: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return the model's parameters that are not among `taken`."""
    own = {id(p) for p in taken}
    return [p for p in model.parameters() if id(p) not in own]


def observed(value: Tensor, mask: Tensor | None) -> Tensor:
    """Return `value` with 0 where `mask` is 0, as encoders see missing cells."""
    return value if mask is None else torch.where(mask.bool(), value, 0.0)
