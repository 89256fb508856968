"""Denoising: the encoder sees a corrupted input, the likelihood scores the clean one."""

from dataclasses import replace

from torch import Tensor, nn

from ..core.model import VAE
from ..core.objective import TRAITS, Objective, Outcome
from ..core.record import recorded
from ..core.spec import DataSpec
from ..core.types import Batch


@recorded
class Corrupt(Objective):
    r"""Another objective on `Batch(seen=corruption(x), x=x)` (Im et al. 2017, arXiv 1511.06406, the bound L_dvae).

    With the ELBO inside, E over corruptions x~ of E_{q(z|x~)}[log p(x, z) - log q(z|x~)] is a bound on log p(x)
    of the clean x.

    Args:
        objective: the objective to wrap.
        corruption: a module from x to what the encoder sees; it draws its noise anew each step.

    >>> from lowerbound.data.corruptions import GaussianNoise
    >>> from lowerbound.objectives import ELBO
    >>> Corrupt(ELBO(), GaussianNoise(0.3)).monitor
    'elbo'
    """

    corrupts = True

    def __init__(self, objective: Objective, corruption: nn.Module) -> None:
        super().__init__()
        self.objective, self.corruption = objective, corruption
        for trait in TRAITS:
            setattr(self, trait, getattr(objective, trait))

    @property
    def settled(self) -> int:
        """The step from which the wrapped objective's schedules no longer change."""
        return self.objective.settled

    def remarks(self, spec: DataSpec) -> tuple[str, ...]:
        """Return what is to be said of the wrapped objective."""
        return self.objective.remarks(spec)

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the wrapped objective's players."""
        return self.objective.players(model)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the wrapped objective's outcome on the corrupted batch; a batch that brings `seen` keeps it."""
        seen = self.corruption(batch.x) if batch.seen is None else batch.seen
        return self.objective(model, replace(batch, seen=seen), step)
