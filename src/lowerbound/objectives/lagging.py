"""Lagging inference: early in training the encoder takes several steps for each step of the decoder."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import VAE, Stateful
from ..core.objective import Objective, Outcome, inference_parameters
from ..core.record import recorded
from ..core.types import Batch, Latent, Trace
from .critics import without
from .kernels import only_latent, shares


@recorded
class Lagging(Stateful, Objective):
    r"""The ELBO, with an encoder that is trained ahead of the decoder (He et al. 2019, arXiv 1901.05534, algorithm 1).

    Players "inference" (encoder and posterior families) and "generative" (all else) both maximise the ELBO. While
    `aggressive` is 1 the generative player moves only at steps that `every` divides. Aggression ends for good once
    the mutual information I(z; n) under q, averaged over `window` steps, is no higher than over the `window` before.
    The paper judges convergence of each inner loop by the ELBO, and I on validation data after each epoch; here the
    inner loop has a set length and I is that of the training batches, E[log q(z|x) - log 1/B sum_j q(z|x_j)], which
    is at most log B. Where a batch is passed in pieces or by several processes, B is the rows of each. As the step
    decides which player moves, it cannot become one graph.

    Args:
        every: steps of the inference player for one of the generative player, while aggressive.
        window: steps over which the mutual information is averaged.

    Raises:
        UsageError: if a number is below 1.

    >>> Lagging().aggressive.item()
    1.0
    """

    rescores = True
    aggressive: Tensor
    steps: Tensor
    total: Tensor
    before: Tensor

    def __init__(self, every: int = 10, window: int = 200) -> None:
        super().__init__()
        for name, value in {"every": every, "window": window}.items():
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} cannot be {value}", expected="a whole number above 0")
        self.every, self.window = every, window
        self.register_buffer("aggressive", torch.ones(()))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("before", torch.full((), -1.0))

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of encoder and posterior families, and all others."""
        inference = inference_parameters(model)
        return {"inference": inference, "generative": without(model, inference)}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return -ELBO for the players that move in this step."""
        trace = model(batch)
        terms = trace.terms()
        loss = -batch.mean(terms["elbo"])
        rests = bool(self.aggressive > 0) and float(step) % self.every != 0
        losses = {"inference": loss} if rests else {"inference": loss, "generative": loss}
        with torch.no_grad():
            mutual = information(only_latent(trace, "Lagging"), shares(batch))
        terms["mi_estimate"] = mutual.mean(0)
        return Outcome(losses, terms, trace)

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return the mutual information of the rows, and their number."""
        rows = trace.log_px.new_full((), len(batch.x))
        return {"information": rows * batch.mean(information(trace.latents[0], shares(batch)).mean(0)), "rows": rows}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Add this step's mutual information, and at the end of a window judge whether it still rises."""
        self.steps.add_(1)
        self.total.add_(sums["information"] / sums["rows"])
        ends = self.steps % self.window == 0
        mean = self.total / self.window
        self.aggressive.mul_(torch.where(ends & (mean <= self.before), 0.0, 1.0))
        self.before.copy_(torch.where(ends, mean, self.before))
        self.total.copy_(torch.where(ends, 0.0, self.total))


def information(latent: Latent, share: Float[Tensor, " B"]) -> Float[Tensor, "K B"]:
    """Return log q(z_i|x_i) - log sum_j share_j q(z_i|x_j) in nats, whose mean is I(z; n) of the batch.

    Args:
        latent: the codes and their posterior.
        share: the rows' shares, summing to 1.
    """
    assert latent.q is not None, "a trace of data has a posterior"
    under_each = latent.q.log_prob(latent.z.unsqueeze(2))  # [K, B of z, B of q]
    return latent.log_q - torch.logsumexp(under_each + share.log(), 2)
