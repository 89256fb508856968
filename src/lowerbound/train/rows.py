"""The rows of a training, as its recipe wants them, on the device it computes on."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..core.errors import UsageError
from ..core.model import VAE
from ..core.recipe import Recipe
from ..core.rules import check_values
from ..data.augment import Augment
from ..data.checks import fingerprint
from ..data.dataset import Data, Dataset

SHOWN_ROWS = 100


@dataclass(frozen=True)
class Rows:
    """What a training sees of its data.

    Args:
        train: rows to learn from; augmented if the recipe says so.
        valid: rows to judge by; there may be none.
        shown: rows of which pictures are made.
        about: what the run folder says of the data.
        found: what was noted when the data were read, as lines for people.
    """

    train: Dataset
    valid: Dataset
    shown: Dataset
    about: dict[str, Any]
    found: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, data: Data, device: torch.device) -> "Rows":
        """Take them from `data`.

        Raises:
            UsageError: if rows that are not images are to be augmented.
        """
        train = data.train.matching(recipe.spec, resample=True).to(device)
        if recipe.training.augment:
            if train.spec.kind != "image":
                raise UsageError(f"{train.spec.name} cannot be augmented", expected="images", fix="drop --augment")
            train = replace(train, augment=Augment(recipe.training.augment))
        valid = data.valid.matching(recipe.spec).at_hand().to(device)
        first = data.train.take(min(SHOWN_ROWS, len(data.train)))
        shown = valid if len(valid) else first.matching(recipe.spec).to(device)
        about = {"origin": data.origin, "fingerprint": fingerprint(data)}
        about |= {"notes": list(data.notes), "warnings": list(data.warnings)}
        return cls(train, valid, shown, about, (*data.notes, *(f"warning: {line}" for line in data.warnings)))

    @property
    def plain(self) -> Dataset:
        """The training rows without augmentation."""
        return replace(self.train, augment=None)

    @property
    def are_pictures(self) -> bool:
        """True for grey and colour images."""
        return self.shown.spec.kind == "image" and self.shown.spec.shape[0] in (1, 3)

    def check(self, recipe: Recipe, model: VAE) -> None:
        """Raise UsageError or DataError if the recipe was made for other pixels, or values lie outside p(x|z)."""
        if self.train.spec.binarize != recipe.spec.binarize:
            raise UsageError(
                f"the recipe was made for pixels with binarisation {recipe.spec.binarize!r}, the data say "
                f"{self.train.spec.binarize!r}",
                fix="make the recipe from data.spec",
            )
        for rows in (self.train, self.valid):
            check_values(model.decoder.family, rows.support, rows.spec.name)
