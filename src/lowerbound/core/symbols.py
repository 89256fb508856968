"""Sequences of symbols: from values to the symbols' numbers, and where a sequence ends."""

from torch import Tensor


def numbers_of(x: Tensor, symbols: int, scale: int = 1) -> Tensor:
    """Return the numbers of symbols that values stand for, the same shape: value times scale, 0 to `symbols`.

    >>> import torch
    >>> numbers_of(torch.tensor([0.0, 0.5, 1.0]), 3, 2)
    tensor([0, 1, 2])
    """
    return (x * scale).round().clamp(0, symbols).long()


def present(numbers: Tensor, symbols: int, mask: Tensor | None = None) -> Tensor:
    """Return True for the symbols of a sequence `[..., T]`: it ends before the first cell that is no symbol or masked.

    >>> import torch
    >>> present(torch.tensor([[0, 1, 2, 2], [2, 0, 1, 1]]), 2).tolist()
    [[True, True, False, False], [False, False, False, False]]
    """
    each = numbers < symbols
    if mask is not None:
        each = each & mask.bool()
    return each.long().cumprod(-1).bool()
