"""What the objectives that compare batches of codes share: one flat group, shares of rows, kernels."""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import Incompatible, UsageError
from ..core.types import Batch, Latent, Trace

KernelName: TypeAlias = Literal["imq", "rbf", "laplace"]
Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def only_latent(trace: Trace, who: str) -> Latent:
    """Return the latent of a flat model.

    Raises:
        Incompatible: if the model has several groups.
    """
    if len(trace.latents) != 1:
        raise Incompatible(
            f"{who} cannot be used with {len(trace.latents)} latent groups: it is defined for the codes of one",
            where="one group",
            fix="use a flat recipe, such as `vae`",
        )
    return trace.latents[0]


def codes(latent: Latent) -> Float[Tensor, "K B D"]:
    """Return z with one axis of dimensions, in float32 or wider."""
    z = latent.z.flatten(2)
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def shares(batch: Batch) -> Float[Tensor, " B"]:
    """Return each row's share of the batch, summing to 1: its weight where there are any."""
    if batch.weight is None:
        return batch.x.new_full((batch.x.shape[0],), 1 / batch.x.shape[0])
    return batch.weight / batch.weight.sum()


def check_weights(**weights: float) -> None:
    """Raise UsageError if a weight is negative or not finite."""
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            raise UsageError(f"{name} cannot be {value}", expected="a finite number, 0 or more")


def make_kernel(name: KernelName, scales: tuple[float, ...]) -> Kernel:
    r"""Return k(z, z') averaged over `scales`, so that k(z, z) = 1; D is the number of dimensions.

    "imq": c / (c + |z - z'|^2) with c = 2 D s (Tolstikhin et al. 2018, arXiv 1711.01558, sec. 4); "rbf":
    exp(-|z - z'|^2 / (2 D s)); "laplace": exp(-|z - z'|_1 / (D s)). 2 D is the mean squared distance of two draws
    of N(0, I).

    Args:
        name: "imq", "rbf" or "laplace".
        scales: the numbers s.

    Raises:
        UsageError: if there is no such kernel, or a scale is not positive.

    >>> z = torch.tensor([[0.0], [2.0]])
    >>> make_kernel("rbf", (1.0,))(z, z)[0, 1].item()  # exp(-2)
    0.1353...
    """
    if name not in get_args(KernelName):
        raise UsageError(f"there is no kernel {name!r}", expected=", ".join(get_args(KernelName)))
    if not scales or not all(0 < s < float("inf") for s in scales):
        raise UsageError(f"the scales cannot be {scales}", expected="finite numbers above 0")

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        dims = one.shape[-1]
        if name == "laplace":
            distance = torch.cdist(one, other, p=1.0) / dims
            return torch.stack([torch.exp(-distance / s) for s in scales]).mean(0)
        exact = "donot_use_mm_for_euclid_dist"  # the product of matrices loses the digits of small distances
        square = torch.cdist(one, other, compute_mode=exact).square() / (2 * dims)
        if name == "rbf":
            return torch.stack([torch.exp(-square / s) for s in scales]).mean(0)
        return torch.stack([s / (s + square) for s in scales]).mean(0)

    return kernel
