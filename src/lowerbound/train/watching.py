"""Who looks at a model while it learns: functions of the user's, and pictures in the run folder."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from ..core.errors import LowerboundError
from ..core.model import VAE, inference
from ..core.noise import kept_generators
from .snapshots import Snapshots

Watcher: TypeAlias = Callable[[VAE, int], None]
"""Is shown the model, in evaluation mode, and the number of epochs done."""


class Watching:
    """Shows a model to all that look at it; what they draw changes nothing.

    Args:
        watchers: functions of the user's.
        snapshots: keeps pictures, as long as they can be written: they must not end a training.
        say: says a line.
    """

    def __init__(self, watchers: tuple[Watcher, ...], snapshots: Snapshots | None, say: Callable[[str], None]) -> None:
        self.watchers, self.snapshots, self.say = watchers, snapshots, say

    def __call__(self, model: VAE, epoch: int) -> None:
        """Show the model after `epoch` epochs; an error of a watcher is raised."""
        with inference(model), kept_generators():
            self._snapshot(model, epoch)
            for watcher in self.watchers:
                watcher(model, epoch)

    def _snapshot(self, model: VAE, epoch: int) -> None:
        if self.snapshots is None:
            return
        try:
            self.snapshots(model, epoch)
        except (OSError, LowerboundError) as error:
            self.snapshots = None
            with suppress(OSError):
                self.say(f"warning: no further pictures of this training are kept: {error}")
