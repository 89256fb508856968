"""What a training says to people and logs for programs."""

import math
from collections.abc import Mapping
from typing import Any

from ..core.model import VAE, Group
from ..core.objective import Outcome
from ..core.recipe import Recipe
from .learner import Learner
from .log import Listeners
from .progress import Progress
from .rows import Rows


def latents_of(model: VAE) -> int:
    """Return the number of latent dimensions of all groups."""
    return sum(math.prod(g.posterior_family.event_shape) for g in model.groups if isinstance(g, Group))


class Teller:
    """Tells what happens in a training.

    Args:
        log: who hears it.
        recipe: what is trained.
        rows: on what.
        learner: the model in training.
        progress: how far it has come.
    """

    def __init__(self, log: Listeners, recipe: Recipe, rows: Rows, learner: Learner, progress: Progress) -> None:
        self.log, self.recipe, self.rows, self.learner, self.progress = log, recipe, rows, learner, progress

    def _event(self, kind: str, **values: Any) -> None:
        self.log.event(kind, epoch=self.progress.epoch, step=self.progress.step, **values)

    def begin(self) -> None:
        """Tell what is trained, on what and how."""
        learner, progress, spec = self.learner, self.progress, self.rows.train.spec
        count = sum(p.numel() for p in learner.model.parameters())
        facts: dict[str, Any] = {
            "recipe": self.recipe.name, "data": spec.name, "binarisation": spec.binarize, "seed": learner.seed,
            "device": str(learner.device), "precision": learner.plan.precision, "kernels": learner.plan.kernels,
            "parameters": count, "step": progress.step,
            "epochs": self.recipe.training.epochs, "steps_per_epoch": progress.steps_per_epoch,
            "processes": learner.processes.size, "sharded": learner.shard,
        }  # fmt: skip
        self.log.event("resume" if progress.again else "start", **facts)
        if progress.again:
            self.log.say(
                f"going on after step {progress.step:,}, epoch {progress.epoch} of {self.recipe.training.epochs}"
            )
        self.log.say(
            f"{self.recipe.name} on {spec.name}: {len(self.rows.train):,} training and {len(self.rows.valid):,} "
            f"validation examples of {spec.dims} values, {count:,} parameters, {learner.device}, seed {learner.seed}"
        )
        for line in self._remarks():
            self.log.say(line)

    def _remarks(self) -> list[str]:
        """Return what there is to know of the data, and what may surprise."""
        learner, train, size = self.learner, self.rows.train, self.recipe.training.batch_size
        spec, latents = train.spec, latents_of(self.learner.model)
        lines = []
        if train.resample:
            lines.append("grey pixels are binarised anew in each batch (dynamic); validation and test once, by seed")
        if spec.label is not None and not learner.model.conditional:
            lines.append(f"{spec.label.name!r} is kept aside: {self.recipe.name} does not model it (cvae does)")
        if learner.shard:
            lines.append(f"weights, gradients and moments are divided among {learner.processes.size} processes")
        lines += [*learner.objective.remarks(spec), *self.rows.found]
        if latents >= spec.dims and len(learner.model.groups) == 1:  # the levels of a ladder share what they carry
            lines.append(
                f"warning: {latents} latent dimensions for {spec.dims} values: nothing has to be summarised "
                "(choose a smaller --latent-dim)"
            )
        if size > len(train):
            lines.append(f"batch size {size} is more than the data: batches of {len(train)}")
        return lines

    def scales(self, outcome: Outcome) -> None:
        """Say how large the terms of the first step are, and what they are of."""
        spec = self.rows.train.spec
        dims = {"distortion": spec.dims, "rate": latents_of(self.learner.model)}
        parts = [
            f"{name} {float(outcome.terms[name].detach().mean()):.1f} nats ({size} dims)"
            for name, size in dims.items()
            if name in outcome.terms
        ]
        exact = self.learner.objective.monitor == "elbo"
        bound = "; both summed over dimensions, so beta = 1 is the ELBO" if exact else ""
        if spec.log_scale is not None:
            bound += "; densities of standardised columns, `evaluate` reports the data's own units"
        self.log.say(f"step 0: {', '.join(parts)}{bound}")

    def fell_back(self) -> None:
        """Say that a pass could not be compiled."""
        self.log.say("a pass cannot be compiled here: training goes on without")

    def cut_finer(self) -> None:
        """Tell that a batch did not fit into memory, and that its pieces are smaller from now on."""
        rows = self.learner.pieces.rows
        self._event("micro_batch", rows=rows)
        self.log.say(
            f"the memory is full: from step {self.progress.step:,} on, batches are passed in pieces of {rows} rows; "
            "the gradient stays that of the whole batch"
        )

    def epoch(self, split: str, terms: Mapping[str, float]) -> None:
        """Tell an epoch's means over the rows of a split; the history keeps them."""
        progress = self.progress
        named = {name: terms.get(name) for name in ("elbo", "distortion", "rate")}
        more = {name: value for name, value in terms.items() if name not in named}
        values = {"epoch": progress.epoch, "step": progress.step, "split": split, **named, **more}
        values["seconds"] = progress.seconds
        progress.history.append(values)
        self.log.event("epoch", **values)

    def left_out(self) -> None:
        """Tell how many steps of the epoch were left out, since their gradients were too large; count from 0 again."""
        guard = self.learner.guard
        count = int(guard.left_out)
        if count:
            guard.left_out.zero_()
            limit, epoch = self.recipe.training.skip_above, self.progress.epoch
            self._event("skipped", steps=count)
            self.log.say(f"epoch {epoch}: {count} steps were left out: a gradient's norm was above {limit:g}")

    def tick(self, done: int) -> None:
        """Tell that so many steps of the epoch are done."""
        self.log.tick(self.progress.epoch, done, self.progress.steps_per_epoch)

    def patience(self) -> None:
        """Say that training stops early."""
        monitor, epochs = self.learner.objective.monitor, self.recipe.training.patience
        self.log.say(f"no better {monitor} for {epochs} epochs: stopping")

    def end(self, status: str, **more: Any) -> None:
        """Tell how training ended."""
        progress = self.progress
        values = {"epoch": progress.epoch, "step": progress.step, **more}
        self.log.event("end", status=status, **values)
