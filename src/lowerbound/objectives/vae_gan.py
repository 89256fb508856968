"""VAE-GAN: reconstructions are judged by the features of a critic that is trained against them."""

from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import VAE, Group
from ..core.objective import Objective, Outcome, inference_parameters
from ..core.record import recorded
from ..core.types import Batch
from ..core.walk import from_prior, walk
from .critics import Critic, made_loss, observed, real_loss, without


@recorded
class VAEGAN(Objective):
    r"""Three players: encoder, decoder and a critic D with features f, on one pass (Larsen et al. 2016, alg. 1).

    With x' = E[x|z], z from q, and x'' = E[x|z], z from the prior (arXiv 1512.09300, sec. 2.2 to 2.4):

    - encoder: KL(q || p) + d, with d = weight |f(x) - f(x')|^2 / 2: -log N(f(x); f(x'), I / weight) up to its constant,
    - decoder: gamma d - log D(x') - log D(x''), where the paper has log(1 - D) instead of
      -log D: the same fixed point, without a gradient that vanishes (Goodfellow et al. 2014, arXiv 1406.2661, sec. 3),
    - critic: -log D(x) - log(1 - D(x')) - log(1 - D(x'')).

    The paper has weight 1 and features of thousands of dimensions; where d is small beside the KL, q collapses to the
    prior. Weights of the prior move with the decoder, by the KL. Those of the likelihood itself (a learned variance),
    which none of the three reads, are a fourth player that minimises the distortion. Not a bound: distortion, rate
    and elbo are of the pixels and are reported, but not optimised. As the features move, their distance at one step
    says nothing about another step's, so the best weights are those of the lowest distortion.

    Args:
        event_shape: shape of one example.
        weight: precision of the features, in the losses of encoder and decoder.
        gamma: weight of the feature distance in the decoder's loss.
        hidden: widths of the critic's hidden layers; the last one is f.
        channels: channels of the critic's convolutions, for images; none for an MLP on data of any shape.

    Raises:
        UsageError: if a weight is negative.

    >>> VAEGAN((1, 8, 8), channels=(8, 16)).monitor
    'distortion'
    """

    monitor = "distortion"
    reads_mean = True
    maximize = False

    def __init__(
        self,
        event_shape: tuple[int, ...],
        weight: float = 1.0,
        gamma: float = 1.0,
        hidden: tuple[int, ...] = (256,),
        channels: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        if not (0 <= weight < float("inf") and 0 <= gamma < float("inf")):
            given = f"weight={weight}, gamma={gamma}"
            raise UsageError(f"the weights cannot be {given}", expected="finite numbers, 0 or more")
        self.weight, self.gamma = weight, gamma
        self.critic = Critic(tuple(event_shape), tuple(hidden), tuple(channels))

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return encoder (posteriors included), decoder (priors included), critic, and a learned likelihood scale."""
        encoder = inference_parameters(model)
        likelihood = list(model.decoder.family.parameters())
        players = {
            "encoder": encoder,
            "decoder": without(model, encoder + likelihood),
            "critic": list(self.critic.parameters()),
        }
        return players | ({"likelihood": likelihood} if likelihood else {})

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the losses of all players; terms `feature_distance`, `fooling` and `critic` besides the pixels'."""
        trace = model(batch)
        terms = trace.terms()
        x = observed(batch.x, batch.mask)
        again, new = (observed(mean, batch.mask) for mean in (trace.px.mean[0], _invented(model, batch)))
        seen = self.critic.features(x).detach()
        made = self.critic.features(again)
        terms["feature_distance"] = 0.5 * self.weight * (seen - made).square().sum(-1)
        terms["fooling"] = real_loss(self.critic.log_odds(made)) + real_loss(self.critic(new))
        judged = made_loss(self.critic(again.detach())) + made_loss(self.critic(new.detach()))
        terms["critic"] = real_loss(self.critic(x)) + judged
        losses = {
            "encoder": terms["rate"] + terms["feature_distance"],
            "decoder": terms["rate"] + self.gamma * terms["feature_distance"] + terms["fooling"],
            "critic": terms["critic"],
        }
        if list(model.decoder.family.parameters()):
            losses["likelihood"] = terms["distortion"]
        return Outcome({name: batch.mean(loss) for name, loss in losses.items()}, terms, trace)


def _invented(model: VAE, batch: Batch) -> Tensor:
    """Return the mean of p(x|z) for a z from the prior for each example, `[B, *event]`."""
    groups = [g for g in model.groups if isinstance(g, Group)]
    state, _ = walk(groups, None, batch.y, model.infer, from_prior, (1, batch.x.shape[0]))
    return model.decoder(state, batch.y).mean[0]
