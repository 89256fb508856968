"""The adversarial autoencoder: a critic makes the codes of the data look like draws of the prior."""

from torch import Tensor, nn

from ..core.distribution import sample_shape
from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Latent
from .critics import Critic, made_loss, real_loss


@recorded
class AAE(Objective):
    r"""E_q[-log p(x|z)] - weight E_q[log D(z)] against a critic D that tells q's codes from draws of the prior.

    The critic minimises -E_p[log D(z)] - E_q[log(1 - D(z))]; at its optimum log D / (1 - D) = log p(z) / q(z), q(z)
    being the codes of all data (Makhzani et al. 2016, arXiv 1511.05644, sec. 2; critic: Goodfellow et al. 2014,
    arXiv 1406.2661, eq. 1). Reconstruction and regularisation are one step here and two phases in the paper.

    Not a bound. A critic that moves is no yardstick, so the best weights are those of the lowest distortion. No
    gradient reaches the prior: a prior with weights of its own stays where it starts.

    Args:
        latent_shape: shape of z.
        weight: weight of fooling the critic, in nats.
        hidden: widths of the critic's hidden layers.

    Raises:
        UsageError: if the weight is negative.

    >>> AAE((8,)).monitor
    'distortion'
    """

    needs_density = False
    learns_prior = False
    monitor = "distortion"
    maximize = False

    def __init__(self, latent_shape: tuple[int, ...], weight: float = 1.0, hidden: tuple[int, ...] = (256,)) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise UsageError(f"the weight cannot be {weight}", expected="a finite number, 0 or more")
        self.weight, self.critic = weight, Critic(tuple(latent_shape), tuple(hidden))

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return two players: the whole model, and the critic."""
        return {"model": list(model.parameters()), "critic": list(self.critic.parameters())}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the losses of model and critic; terms `fooling` -log D(z) and `critic`, its cross-entropy."""
        trace = model(batch)
        if len(trace.latents) > 1:
            raise Incompatible(
                f"AAE was given a model of {len(trace.latents)} latent groups",
                where="AAE",
                expected="one, whose codes the critic compares with the prior's",
            )
        terms = trace.terms() if model.has_density else {"distortion": -trace.mean(trace.log_px)}
        z = trace.latents[0].z[0]  # [B, *latent]
        terms["fooling"] = real_loss(self.critic(z))
        terms["critic"] = real_loss(self.critic(_from_prior(trace.latents[0]))) + made_loss(self.critic(z.detach()))
        loss = batch.mean(terms["distortion"] + self.weight * terms["fooling"])
        return Outcome({"model": loss, "critic": batch.mean(terms["critic"])}, terms, trace)


def _from_prior(latent: Latent) -> Tensor:
    """Return as many draws of the prior as there are examples, `[B, *latent]`."""
    return latent.p.sample(sample_shape(latent.p, (1, latent.z.shape[1])))[0]
