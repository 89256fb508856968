"""How often the state of a training is saved."""

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

from ..core.errors import UsageError

Unit: TypeAlias = Literal["steps", "epochs", "minutes"]
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(step|epoch|minute)s?\s*", re.ASCII)


class Passed(NamedTuple):
    """Where a training is: steps and epochs done, and seconds on a clock."""

    steps: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class SaveEvery:
    """So many steps, epochs or minutes from one checkpoint to the next.

    Args:
        amount: how many.
        unit: of what. Minutes are looked at after each step.
    """

    amount: float
    unit: Unit

    @classmethod
    def of(cls, words: str) -> "SaveEvery":
        """Read words such as "500 steps", "2epochs" or "0.5 minutes".

        Raises:
            UsageError: if they are none.

        >>> SaveEvery.of("500 steps")
        SaveEvery(amount=500.0, unit='steps')
        """
        found = _FORM.fullmatch(words)
        amount = float(found[1]) if found else 0.0
        if found is None or not 0 < amount < math.inf or (found[2] != "minute" and amount != int(amount)):
            raise UsageError(
                f"cannot save every {words!r}",
                expected='a number above 0 of steps, epochs or minutes, such as "500 steps", "1 epoch", "10 minutes"',
            )
        return cls(amount, cast(Unit, f"{found[2]}s"))

    def due(self, before: Passed, now: Passed) -> bool:
        """Tell whether so much has passed since the last checkpoint."""
        passed = {
            "steps": now.steps - before.steps,
            "epochs": now.epochs - before.epochs,
            "minutes": (now.seconds - before.seconds) / 60,
        }
        return passed[self.unit] >= self.amount
