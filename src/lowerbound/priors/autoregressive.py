"""Autoregressive priors of codes: each code is guessed from those before it."""

from abc import ABC, abstractmethod
from math import prod

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from ..core.distribution import Distribution, Sizes, Support, wide
from ..core.errors import Incompatible, ShapeError
from ..core.model import NEEDS_Y
from ..core.record import recorded
from ..core.types import Infer
from ..networks.pixelcnn import PixelCNN
from ..networks.transformer import Transformer
from .codes import check_codes


class AutoregressiveCodes(nn.Module, ABC):
    """Base of the priors that guess each code from those before it; a subclass gives `logits` and `draws`.

    Args:
        event_shape: (stages, *places).
        classes: number of codes of each place and stage.
        context: shape of what else is read, the condition y or the state of the level above; () for nothing.
    """

    support: Support = "codes"
    discrete = True
    tempers = True

    def __init__(self, event_shape: tuple[int, ...], classes: int, context: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.event_shape, self.classes = check_codes(event_shape, classes)
        self.context = tuple(context)

    def forward(self, y: Tensor | None, infer: Infer | None) -> "InOrder":
        """Return P(codes|y), batch shape that of y, or none.

        Args:
            y: context `[..., *context]`.
            infer: not read.

        Raises:
            ShapeError: if y is not what was announced.
        """
        if not self.context:
            return InOrder(self, None, Size(()))
        lead = 0 if y is None else y.ndim - len(self.context)
        if y is None or lead < 0 or tuple(y.shape[lead:]) != self.context:
            raise ShapeError(
                f"a {type(self).__name__} was given {'nothing' if y is None else tuple(y.shape)} to read",
                expected=f"{self.context} for each example",
                fix=NEEDS_Y,
            )
        return InOrder(self, y, y.shape[:lead])

    @abstractmethod
    def logits(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Return the logits `[N, *event, classes]` of each code `[N, *event]`, given those before it."""

    @abstractmethod
    def draws(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Return codes `[N, *event]`, each the largest of its logits plus `noise` `[N, *event, classes]`."""


class InOrder(Distribution):
    """P(c) = prod_i P(c_i | c_1, ..., c_(i-1), context).

    Args:
        prior: gives the factors.
        context: what they read beside, `[*batch_shape, *]`, or None.
        batch_shape: of the distributions.
    """

    def __init__(self, prior: AutoregressiveCodes, context: Tensor | None, batch_shape: Size) -> None:
        super().__init__(batch_shape, Size(prior.event_shape))
        self.prior, self.context = prior, context

    def _context_of(self, lead: Size) -> Tensor | None:
        """Return the context of rows of these leading axes, `[N, *context]`."""
        if self.context is None:
            return None
        return self.context.expand(*lead, *self.prior.context).reshape(-1, *self.prior.context)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log P(codes) in nats, `[...]`."""
        event = len(self.event_shape)
        lead = torch.broadcast_shapes(value.shape[: value.ndim - event], self.batch_shape)
        codes = value.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape)
        log_shares = wide(self.prior.logits(codes, self._context_of(lead))).log_softmax(-1)
        return log_shares.gather(-1, codes[..., None]).flatten(1).sum(1).view(lead)

    def _drawn(self, lead: Size, temperature: float) -> Tensor:
        shape = (prod(lead), *self.event_shape, self.prior.classes)
        noise = torch.zeros(shape, device=next(self.prior.parameters()).device)
        if temperature:  # the largest of logits / T + noise is that of logits + T noise
            noise = -temperature * noise.exponential_().clamp_min(torch.finfo(noise.dtype).tiny).log()
        with torch.no_grad():
            return self.prior.draws(noise, self._context_of(lead)).view(*lead, *self.event_shape)

    @property
    def centre(self) -> Tensor:
        """Codes each of which is the most probable one after those before it."""
        return self._drawn(self.batch_shape, 0.0)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw codes, one after the other."""
        return self.sample_at(1.0, sample_shape)

    def sample_at(self, temperature: float, sample_shape: Sizes = ()) -> Tensor:
        """Draw codes, the logits of each divided by the temperature; 0 takes the most probable one each time."""
        return self._drawn(Size((*sample_shape, *self.batch_shape)), temperature)


@recorded
class PixelCNNPrior(AutoregressiveCodes):
    r"""P(codes) = prod_i P(c_i | the codes above and to the left), by a gated PixelCNN.

    van den Oord et al. 2016, arXiv 1606.05328, eq. 1; for codes: van den Oord et al. 2017, arXiv 1711.00937, sec. 3.3.

    Args:
        event_shape: (1, height, width).
        classes: number of codes.
        channels: of the network.
        blocks: gated layers after the first.
        context: shape of what else is read: (C,), or (C, height, width) of any size; () for nothing.

    Raises:
        Incompatible: if the codes are no image of one stage.
        ShapeError: if the context is neither a vector nor an image.

    >>> p = PixelCNNPrior((1, 3, 2), 5, channels=8)(None, None)
    >>> p.log_prob(p.sample((4,))).shape
    torch.Size([4])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        classes: int,
        channels: int = 64,
        blocks: int = 4,
        context: tuple[int, ...] = (),
    ) -> None:
        super().__init__(event_shape, classes, context)
        if len(event_shape) != 3 or event_shape[0] != 1:
            raise Incompatible(
                f"a PixelCNN cannot guess codes of shape {tuple(event_shape)}",
                where="codes x prior",
                expected="(1, height, width)",
                fix="use a TransformerPrior",
            )
        if len(context) not in (0, 1, 3):
            raise ShapeError(f"a PixelCNN cannot read {tuple(context)}", expected="(C,) or (C, height, width)")
        size = tuple(event_shape[1:])
        reads = context[0] if context else 0
        self.network = PixelCNN((classes, *size), (classes, *size), channels, blocks, reads)

    def _spread(self, context: Tensor | None) -> Tensor | None:
        """Bring a map to the size of the codes."""
        if context is None or context.ndim != 4:
            return context
        return F.interpolate(context, self.event_shape[1:], mode="nearest")

    def logits(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Return the logits of each code, in one pass."""
        return self._of(codes, self._spread(context)).unsqueeze(1)

    def _of(self, codes: Tensor, context: Tensor | None) -> Tensor:
        seen = F.one_hot(codes[:, 0], self.classes).movedim(-1, 1).to(self.network.out.weight)
        return self.network(seen, context).movedim(1, -1)

    def draws(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Draw pixel by pixel; each pass looks at the rows above that matter."""
        spread = self._spread(context)
        codes = torch.zeros(noise.shape[:-1], dtype=torch.long, device=noise.device)
        for row in range(noise.shape[2]):
            first = max(0, row - self.network.reach)
            near = spread[:, :, first : row + 1] if spread is not None and spread.ndim == 4 else spread
            for column in range(noise.shape[3]):
                logits = self._of(codes[:, :, first : row + 1], near)[:, -1, column]
                codes[:, 0, row, column] = (logits + noise[:, 0, row, column]).argmax(-1)
        return codes


@recorded
class TransformerPrior(AutoregressiveCodes):
    r"""P(codes) = prod_i P(c_i | c_1, ..., c_(i-1)), by a transformer; place by place, and there stage by stage.

    Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841, eq. 8.

    Args:
        event_shape: (stages, *places), on a grid of any number of axes.
        classes: number of codes.
        width: of the embedding.
        heads: of the attention.
        layers: number of blocks.
        context: shape (C,) of what else is read; () for nothing.

    Raises:
        ShapeError: if the context is no vector.

    >>> p = TransformerPrior((2, 3), 5, width=16, layers=1)(None, None)
    >>> p.log_prob(p.sample((4,))).shape
    torch.Size([4])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        classes: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        context: tuple[int, ...] = (),
    ) -> None:
        super().__init__(event_shape, classes, context)
        if len(context) > 1:
            raise ShapeError(
                f"a TransformerPrior cannot read {tuple(context)}", expected="(C,)", fix="use a PixelCNNPrior"
            )
        length = prod(event_shape)
        reads = context[0] if context else 0
        self.network = Transformer((length,), (length, classes), classes + 1, width, heads, layers, reads)

    def logits(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Return the logits of each code, in one pass."""
        row = codes.movedim(1, -1).flatten(1)
        start = torch.full_like(row[:, :1], self.classes)
        return self._back(self.network(torch.cat([start, row[:, :-1]], 1), context))

    def _back(self, row: Tensor) -> Tensor:
        """Return `[N, L, ...]` as `[N, stages, *places, ...]`."""
        stages, *places = self.event_shape
        return row.unflatten(1, (*places, stages)).movedim(1 + len(places), 1)

    def draws(self, noise: Tensor, context: Tensor | None) -> Tensor:
        """Draw code by code, keeping what attention needs of those before."""
        row = noise.movedim(1, -2).flatten(1, -2)
        last = torch.full((len(row),), self.classes, device=noise.device)
        state, drawn = self.network.begin(context), []
        for place in range(row.shape[1]):
            logits, state = self.network.step(last, state)
            last = (logits + row[:, place]).argmax(-1)
            drawn.append(last)
        return self._back(torch.stack(drawn, 1))
