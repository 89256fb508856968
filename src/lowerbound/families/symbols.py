"""Sequences of symbols, each with a probability given those before it, and an end that is scored as well."""

from math import prod
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import ShapeError, UsageError
from ..core.model import Family, Network
from ..core.record import recorded
from ..core.symbols import numbers_of, present

_RARE = 1e-4


@runtime_checkable
class CausalReader(Protocol):
    """A causal network: the output at a place depends on the tokens up to it, and on a context."""

    def __call__(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Map `[N, t]` and `[N, C]` to `[N, t, values]`."""
        ...

    def begin(self, context: Tensor) -> Any:
        """Return the state before the first token."""
        ...

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token `[N]`; return the output at it and the next state."""
        ...


class SymbolSequence(Distribution):
    """p(x|c) = prod_t p(x_t | x_1, ..., x_{t-1}, c), and p(end | x, c) where sequences end.

    Values are numbers of symbols divided by `scale`; where sequences end, the number of symbols itself stands in all
    cells after the end, and a masked cell ends a sequence, too.

    Args:
        context: c, `[..., C]`.
        family: says what symbols there are, and holds the network.
    """

    def __init__(self, context: Tensor, family: "Symbols") -> None:
        self.context, self.family = context, family
        super().__init__(context.shape[:-1], Size(family.event_shape))

    @property
    def mean(self) -> Tensor:
        """The most probable symbol at each place, given those before it; of ordered levels, the mean of each place."""
        return self._walk(self.batch_shape, draws=False)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw symbol by symbol; what has not ended after the last cell is cut off there."""
        with torch.no_grad():
            return self._walk(self._extended_shape(Size(sample_shape))[: -len(self.event_shape)], draws=True)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of `value` in nats, the end included; what comes after it counts nothing.

        Raises:
            ShapeError: if cells are masked before others that are not, which no formula sums over.
        """
        family, events = self.family, len(self.event_shape)
        if mask is not None:
            value = torch.where(mask.bool(), value, 0.0)
            mask = mask.flatten(-events)
        numbers = numbers_of(value.flatten(-events), family.symbols, family.scale)
        there = present(numbers, family.symbols, mask) if family.ends else torch.ones_like(numbers, dtype=torch.bool)
        if mask is not None and not family.training:  # training rows were looked at when they were made
            _refuse_gaps(mask.bool(), ends=family.ends)
        lead = torch.broadcast_shapes(numbers.shape[:-1], self.batch_shape)
        each = self._log_prob_places(_flat(numbers, lead, 1), _flat(there, lead, 1), _flat(self.context, lead, 1))
        return each.sum(-1).reshape(lead)

    def _log_prob_places(self, numbers: Tensor, there: Tensor, context: Tensor) -> Tensor:
        """Return the log-probability of each symbol, and of the end after the last, `[N, T (+ 1)]`."""
        family = self.family
        numbers = torch.where(there, numbers, family.symbols)
        start = torch.ones_like(there[:, :1])
        if family.ends:
            read, wanted = numbers, torch.cat([numbers, torch.full_like(numbers[:, :1], family.symbols)], 1)
            scored = torch.cat([start, there], 1)  # the end is scored where the symbol before it is there
        else:
            read, wanted, scored = numbers[:, :-1], numbers, there
        read = torch.cat([torch.full_like(numbers[:, :1], family.symbols), family.dropped(read)], 1)
        logits = wide(family.reader(read, context))
        each = logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        return torch.where(scored, each, 0.0)

    def _walk(self, lead: Size, *, draws: bool) -> Tensor:
        """Return what reading symbol after symbol gives, `[*lead, *event]`: draws, or what is most probable."""
        family, context = self.family, _flat(self.context, lead, 1)
        state, token = family.reader.begin(context), torch.full_like(context[:, 0], family.symbols).long()
        ended, made = torch.zeros_like(token, dtype=torch.bool), []
        values = torch.arange(family.outcomes, device=context.device).to(wide(context)) / family.scale
        for _ in range(prod(self.event_shape)):
            logits, state = family.reader.step(token, state)
            shares = wide(logits).softmax(-1)
            token = torch.multinomial(shares, 1)[:, 0] if draws else shares.argmax(-1)
            token = torch.where(ended, family.symbols, token)
            ended = ended | (token == family.symbols)
            made.append(values[token] if draws or family.ends else (shares * values).sum(-1))
        return torch.stack(made, -1).reshape(*lead, *self.event_shape)


@recorded
class Symbols(Family):
    r"""Symbols one after the other, each read by the network before the next is scored, and an end.

    log p(x|z) = sum_t log p(x_t | x_1, ..., x_{t-1}, c(z)) + log p(end | x, c(z)) (Bowman et al. 2016, arXiv
    1511.06349, sec. 2). The end is scored after the last cell, too, so what strings of up to T symbols lack to a total
    of 1 is the probability of longer ones. Without ends, every example fills all cells.

    Args:
        event_shape: shape of one example; an image is read row by row.
        symbols: how many there are, numbered from 0.
        network: causal, from tokens `[N, t]` and a context to the logits of each place. It reads `symbols + 2` tokens:
            start (and what follows the end) is number `symbols`, a dropped one the last. Its places are as many as
            cells, and one more where sequences end; the values at each, the symbols, and the end where there is one.
        scale: a value is the number of a symbol divided by it: 1 for text, levels - 1 for pixels.
        word_dropout: probability that a symbol is hidden, in training, from the network that scores those after it
            (sec. 3.2 there). What training then says of p(x|z) is of a model that sees less; evaluation hides nothing.
        ends: True if sequences have lengths of their own, and an end.

    Raises:
        ShapeError: if the network does not fit.
        UsageError: if there are fewer than 2 symbols without ends, or the dropout is no probability.
    """

    discrete = True
    reparameterised = False
    factorised = False
    marginal = False

    def __init__(
        self,
        event_shape: tuple[int, ...],
        symbols: int,
        network: Network,
        scale: int = 1,
        word_dropout: float = 0.0,
        *,
        ends: bool = True,
    ) -> None:
        super().__init__()
        self.event_shape, self.symbols, self.scale, self.ends = tuple(event_shape), symbols, scale, ends
        if symbols < 2 - ends or scale < 1:
            raise UsageError(f"{symbols} symbols of scale {scale}", expected="2 or more (1 with ends), and 1 or more")
        if not 0 <= word_dropout < 1:
            raise UsageError(f"word dropout cannot be {word_dropout}", expected="0 or more and below 1")
        places = prod(event_shape) + ends
        wanted = (places, self.outcomes)
        if tuple(network.out_shape) != wanted or getattr(network, "symbols", None) != symbols + 2:
            raise ShapeError(
                f"a {type(network).__name__} gives {tuple(network.out_shape)} to a sequence of {symbols} symbols",
                expected=f"{wanted}, of {symbols + 2} tokens",
            )
        self.network, self.word_dropout = network, word_dropout
        self.params = (cast(Any, network).context,)
        self.support = "symbols" if ends else "binary" if symbols == 2 else "levels"
        self.levels = symbols

    @property
    def outcomes(self) -> int:
        """How many values each place can have: the symbols, and the end."""
        return self.symbols + self.ends

    @property
    def reader(self) -> CausalReader:
        """The network."""
        return cast(CausalReader, self.network)

    def dropped(self, numbers: Tensor) -> Tensor:
        """Return the tokens `[N, t]` with some of them hidden, in training."""
        if not self.training or not self.word_dropout:
            return numbers
        hidden = torch.rand(numbers.shape, device=numbers.device) < self.word_dropout
        return torch.where(hidden, self.symbols + 1, numbers)

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return how often each symbol stands in each example, and the end, `[N, outcomes]`; all are observed."""
        seen = mask.flatten(1).bool()
        numbers = numbers_of(torch.where(seen, x.flatten(1), 0.0), self.symbols, self.scale)
        there = present(numbers, self.symbols, seen) if self.ends else seen
        counts = x.new_zeros(len(x), self.symbols + 1)
        counts.scatter_add_(1, torch.where(there, numbers, self.symbols), there.to(x.dtype))
        counts[:, self.symbols] = 1
        counts = counts[:, : self.outcomes]
        return counts, torch.ones_like(counts)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Start the network's output at the logs of the symbols' shares; the context starts anywhere: at 0."""
        shares = (mean / mean.sum()).clamp_min(_RARE)
        self.network.start_at(shares.log()[None])
        return mean.new_zeros(self.params)

    def forward(self, params: Tensor) -> SymbolSequence:
        """Return the distribution with these contexts, `[..., C]`."""
        return SymbolSequence(params, self)


def _refuse_gaps(mask: Tensor, *, ends: bool) -> None:
    gaps = mask[..., 1:] & ~mask[..., :-1] if ends else ~mask
    if bool(gaps.any()):
        raise ShapeError(
            "cells inside a sequence are missing",
            expected="missing cells after its end alone: no formula sums over the others",
            fix="fill them",
        )


def _flat(t: Tensor, lead: Sizes, events: int) -> Tensor:
    """Return `[N, *event]` of leading axes that are first broadcast to `lead`."""
    event = t.shape[t.ndim - events :]
    return t.expand(*lead, *event).reshape(-1, *event)
