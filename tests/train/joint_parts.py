"""What trainings by several processes share: objectives whose faults show if rows are divided wrongly, and batches."""

import torch
from torch import nn
from training_parts import Watched

from lowerbound.core.model import Stateful
from lowerbound.core.objective import Objective, Outcome
from lowerbound.core.record import recorded
from lowerbound.objectives import ELBO

ROWS = 9  # of a batch
CPU = torch.device("cpu")


@recorded
class Numbered(Watched):
    """Reports the first value of each row as its elbo."""

    def forward(self, model, batch, step):
        outcome = super().forward(model, batch, step)
        outcome.terms["elbo"] = batch.x[:, 0]
        return outcome


@recorded
class Tally(Stateful, Objective):
    """The ELBO; counts the rows that it has learned from in a buffer, and adds up their first values in another."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("values", torch.zeros(3))

    def forward(self, model, batch, step):
        return self.inner(model, batch, step)

    def statistics(self, trace, batch):
        return {"rows": torch.tensor(float(len(batch.x))), "values": batch.x.flatten(1)[:, :3].sum(0)}

    def after_step(self, sums):
        self.rows.add_(sums["rows"])
        self.values.add_(sums["values"])


@recorded
class Overlapping(Objective):
    """The ELBO for two players that both hold the decoder; the second one rests at odd steps."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()

    def players(self, model):
        return {"all": list(model.parameters()), "decoder": list(model.decoder.parameters())}

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        losses = {"all": outcome.losses["model"]}
        if float(step) % 2 == 0:
            losses["decoder"] = 3 * batch.mean(outcome.terms["distortion"])
        return Outcome(losses, outcome.terms, outcome.trace)


@recorded
class Partial(Objective):
    """A loss that reaches the first layer of a pair by the first row of a data set alone, and the last never."""

    def __init__(self):
        super().__init__()
        self.inner, self.pair = ELBO(), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    def players(self, model):
        return {"model": [*model.parameters(), *self.pair.parameters()]}

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        if batch.index is not None and bool((batch.index == 0).any()):
            share = (batch.index == 0).float().mean()
            outcome.losses["model"] = outcome.losses["model"] + share * self.pair[0](torch.ones(1)).sum()
        return outcome


@recorded
class NotFinite(Objective):
    """The ELBO, with a term that is not finite in the last rows."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        late = torch.tensor(batch.index is not None and ROWS - 1 in batch.index.tolist())
        outcome.terms["distortion"] = outcome.terms["distortion"] * torch.where(late, torch.nan, 1.0)
        return outcome


@recorded
class Elsewhere(Objective):
    """The ELBO, with a layer of its own and calls of the model's methods outside its pass."""

    def __init__(self):
        super().__init__()
        self.inner, self.layer = ELBO(), nn.Linear(2, 1)

    def players(self, model):
        return {"model": [*model.parameters(), *self.layer.parameters()]}

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        code = model.infer(batch.x).mean
        outcome.losses["model"] = outcome.losses["model"] + batch.mean(self.layer(code).square()[:, 0])
        return outcome


@recorded
class Full(Objective):
    """The ELBO, for which the memory is full after the first step."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()

    def forward(self, model, batch, step):
        if float(step) > 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(model, batch, step)


def batch_of(of, made, weighted):
    """Return the first rows of the data, which know their places, with other weights than 1 if they are `weighted`."""
    batch = of.train.matching(made.spec).batch(slice(0, ROWS))
    batch.index = torch.arange(ROWS)
    if weighted:
        batch.weight = torch.linspace(0.5, 1.5, ROWS)
    return batch


def every(mine):
    """Return what each process has, in order; all must call this."""
    found = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    return found
