"""What objectives share that judge a reconstruction by another distance than its density."""

from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.types import Batch
from .critics import observed, without


class DistanceObjective(Objective):
    r"""Base of objectives that minimise weight * distance(x, E[x|z]) + KL(q || p).

    Not a bound: distortion, rate and elbo are of the likelihood and are reported, but not optimised; the best weights
    are those of the lowest loss. Weights of the likelihood itself (a learned variance), which the distance does not
    read, are a player of their own that minimises the distortion. A subclass sets `monitor`, the loss's name, and
    gives `distance`.

    Args:
        weight: weight of the distance.

    Raises:
        UsageError: if the weight is negative.
    """

    maximize = False
    reads_mean = True

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise UsageError(f"the weight cannot be {weight}", expected="a finite number, 0 or more")
        self.weight = weight

    def distance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the distance `[B]` of x and the reconstruction, both `[B, *event]`."""
        raise NotImplementedError

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the model, and the weights of the likelihood itself if it has any."""
        likelihood = list(model.decoder.family.parameters())
        return {"model": without(model, likelihood)} | ({"likelihood": likelihood} if likelihood else {})

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the loss weight * distance + rate, as the term `monitor` too; missing cells count as equal."""
        trace = model(batch)
        terms = trace.terms()
        terms["distance"] = self.distance(observed(batch.x, batch.mask), observed(trace.px.mean[0], batch.mask))
        terms[self.monitor] = self.weight * terms["distance"] + terms["rate"]
        losses = {"model": batch.mean(terms[self.monitor])}
        if list(model.decoder.family.parameters()):
            losses["likelihood"] = batch.mean(terms["distortion"])
        return Outcome(losses, terms, trace)
