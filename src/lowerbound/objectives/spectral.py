"""Spectral regularisation: a penalty on the largest singular values of convolutions."""

from collections import defaultdict
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..core.objective import TRAITS, Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch


@recorded
class SpectralPenalty(Objective):
    r"""Another objective plus weight * sum_i s_i, with s_i the largest singular value of convolution i of the model.

    Vahdat & Kautz 2020, "NVAE", arXiv 2007.03898, sec. 3.2: networks that change slowly keep the KL of deep levels
    bounded. A kernel is the matrix `[out, in * height * width]`; convolutions whose matrices have one shape are
    treated at once. Power iteration starts anew at each call, and its singular vectors are constants to the gradient,
    so nothing has to be kept between steps. The penalty is a part of the loss and of no other term but `spectral`.

    Args:
        objective: the objective to wrap, of one player.
        weight: of the sum.
        squarings: powers of the matrix are taken by squaring it so often: 6 are 64 iterations.

    Raises:
        UsageError: if the weight is negative or there is no squaring.

    >>> from lowerbound.objectives import ELBO
    >>> SpectralPenalty(ELBO(), 0.1).monitor
    'elbo'
    """

    def __init__(self, objective: Objective, weight: float = 0.1, squarings: int = 6) -> None:
        super().__init__()
        if not 0 <= weight < float("inf") or squarings < 1:
            raise UsageError(
                f"the weight and squarings cannot be {weight} and {squarings}",
                expected="a finite number, 0 or more, and a whole number above 0",
            )
        self.objective, self.weight, self.squarings = objective, weight, squarings
        for trait in (*TRAITS, "corrupts"):
            setattr(self, trait, getattr(objective, trait))
        self.reads_weights = True

    @property
    def settled(self) -> int:
        """The step from which the wrapped objective's schedules no longer change."""
        return self.objective.settled

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the wrapped objective's players.

        Raises:
            Incompatible: if there are several, or the model has no convolution.
        """
        players = self.objective.players(model)
        if list(players) != ["model"]:
            raise Incompatible("a spectral penalty has one player, the model", where="players of a penalty")
        if not convolutions(model):
            raise Incompatible(
                "a spectral penalty cannot be used without convolutions",
                where="spectral penalty x network",
                fix="use a recipe of images, such as `nvae` or `conv_vae`",
            )
        return players

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the wrapped objective's outcome with the penalty added to its loss; the term `spectral` is the sum."""
        outcome = self.objective(model, batch, step)
        total = sum(
            (singular_values(torch.stack(same), self.squarings).sum() for same in _by_shape(convolutions(model))),
            start=step.new_zeros(()),
        )
        terms = {**outcome.terms, "spectral": total.detach().expand(batch.x.shape[0])}
        return replace(outcome, losses={"model": outcome.losses["model"] + self.weight * total}, terms=terms)


def convolutions(model: nn.Module) -> list[Tensor]:
    """Return the kernels of a module's convolutions, each as the matrix `[out, in * height * width]`."""
    found = []
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            found.append(part.weight.flatten(1))
        elif isinstance(part, nn.ConvTranspose2d):
            found.append(part.weight.transpose(0, 1).flatten(1))
    return found


def _by_shape(matrices: list[Tensor]) -> list[list[Tensor]]:
    same: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        same[tuple(matrix.shape)].append(matrix)
    return list(same.values())


def singular_values(matrices: Float[Tensor, "M out into"], squarings: int) -> Float[Tensor, " M"]:
    """Return the largest singular value of each matrix: u' W v, from below, with u and v constants to the gradient.

    u is the direction to which (W W')^n brings every vector, n = 2^squarings, read from the power itself; so no start
    can be at right angles to it.
    """
    with torch.no_grad():
        wide = matrices.detach()
        power = wide @ wide.mT
        for _ in range(squarings):
            power = power / power.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
            power = power @ power
        largest = power.diagonal(dim1=1, dim2=2).argmax(1)
        u = power.gather(2, largest[:, None, None].expand(-1, power.shape[1], 1)).to(wide)
        u = F.normalize(u, dim=1)
        v = F.normalize((u * wide).sum(1, keepdim=True), dim=2)
    return (u * matrices * v).sum((1, 2))
