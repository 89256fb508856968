"""FactorVAE: total correlation by a critic that tells codes from codes with permuted dimensions."""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch
from .critics import Critic, made_loss, real_loss
from .kernels import check_weights, codes, only_latent


@recorded
class FactorVAE(Objective):
    r"""-ELBO + gamma TC(z), TC = E_q(z)[log D(z) / (1 - D(z))] by a critic D.

    Kim & Mnih 2018, arXiv 1802.05983, eq. 2. Players: "model", and "critic", which minimises -1/2 E[log D(z)] -
    1/2 E[log(1 - D(z~))]. z are the codes of the first half of a batch, z~ those of the second half with each
    dimension permuted over the rows (their algorithm 1; they take a second batch). The critic sees codes without
    their gradient, so it cannot move the model. TC is right where the critic is at its optimum; the term `tc_critic`
    is what it says now. gamma = 0 is the ELBO.

    Args:
        latent_shape: shape of z, at least two dimensions.
        gamma: weight of the total correlation.
        hidden: widths of the critic's hidden layers (leaky ReLU of slope 0.2).

    Raises:
        UsageError: if gamma is negative or z has one dimension.

    >>> FactorVAE((10,)).critic.shape
    (10,)
    """

    couples_batch = True

    def __init__(
        self, latent_shape: tuple[int, ...], gamma: float = 10.0, hidden: tuple[int, ...] = (256, 256, 256)
    ) -> None:
        super().__init__()
        check_weights(gamma=gamma)
        self.latent_shape, self.gamma = tuple(latent_shape), gamma
        if prod(self.latent_shape) < 2:
            raise UsageError("one dimension has no total correlation", expected="a latent_shape of at least two")
        self.critic = Critic((prod(self.latent_shape),), tuple(hidden))

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the model's and the critic's parameters."""
        return {"model": list(model.parameters()), "critic": list(self.critic.parameters())}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the model's and the critic's loss."""
        trace = model(batch)
        terms, z = trace.terms(), codes(only_latent(trace, "FactorVAE"))[0]
        terms["tc_critic"] = self.critic(z)
        losses = {
            "model": batch.mean(self.gamma * terms["tc_critic"] - terms["elbo"]),
            "critic": self._critic_loss(z.detach(), batch.weight),
        }
        return Outcome(losses, terms, trace)

    def _critic_loss(self, z: Float[Tensor, "B D"], weight: Tensor | None) -> Float[Tensor, ""]:
        if weight is not None:  # rows count by their weights: draw them so
            z = z[torch.multinomial(weight, len(z), replacement=True)]
        half = (len(z) + 1) // 2
        joint, apart = self.critic(z[:half]), self.critic(permuted(z[len(z) - half :]))
        return 0.5 * (real_loss(joint).mean() + made_loss(apart).mean())


def permuted(z: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Return z with the rows of each dimension in an order of their own: draws of the product of its marginals.

    Args:
        z: codes.

    >>> permuted(torch.arange(6.0).reshape(3, 2)).sort(0).values.tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    return z.gather(0, torch.rand_like(z).argsort(0))
