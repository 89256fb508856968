"""What is fitted once a training is over."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from .errors import UsageError
from .record import recorded


@recorded
@dataclass(frozen=True)
class FitPrior:
    """Fit priors to the codes of the training rows, encoder and decoder frozen, and keep the best by held-out score.

    Args:
        priors: the candidates; the one with the highest mean log p(z) on validation rows replaces the model's.
        epochs: passes through the training rows.
        batch_size: rows in one step.
        lr: learning rate of Adam.
        group: number of the latent group whose prior it is to be, from the top.

    Raises:
        UsageError: if there is no prior or a number is out of its range.
    """

    priors: Sequence[nn.Module]
    epochs: int = 20
    batch_size: int = 128
    lr: float = 1e-3
    group: int = 0

    def __post_init__(self) -> None:
        if not self.priors:
            raise UsageError("no prior was given", expected="at least one")
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < float("inf"):
            raise UsageError(
                f"a prior cannot be fitted in {self.epochs} epochs with batches of {self.batch_size} at rate {self.lr}",
                expected="numbers above 0",
            )
