"""Small data, a small recipe, and objectives and listeners that let a test steer training and look into it."""

import copy
import importlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from lowerbound import from_arrays, recipes
from lowerbound.core.model import Stateful
from lowerbound.core.noise import reseed
from lowerbound.core.objective import Objective, Outcome
from lowerbound.core.recipe import Training
from lowerbound.core.record import recorded
from lowerbound.objectives import ELBO
from lowerbound.train.update import Guard, make_optimizers, update

LR = 0.25
SEEN = {}  # what the objectives below leave for the test: the model in training, the batches, a state


def data(rows=60, valid_fraction=0.2, **options):
    """Return grey images of 5 x 7 pixels: with the defaults 43 for training, 11 for validation, 6 for the test."""
    x = np.random.default_rng(7).integers(0, 256, (rows, 5, 7), dtype=np.uint8)
    return from_arrays(x, valid_fraction=valid_fraction, **options)


def recipe(of, objective=None, **options):
    """Return a `vae` small enough for a test, with another objective if one is given."""
    made = recipes.vae(of.spec, latent_dim=2, hidden=(6,)).replace(objective=objective or ELBO())
    training = {"batch_size": 9, "lr_schedule": "constant", "epochs": 3, **options}
    return made.replace(training=type(made.training)(**training))


def weights(module):
    """Return a copy of the weights as bytes by name."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in module.state_dict().items()}


@recorded
class Watched(Objective):
    """The ELBO; leaves the model and each training batch in SEEN."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()

    def forward(self, model, batch, step):
        SEEN["model"] = model
        if model.training:
            SEEN.setdefault("batches", []).append(batch)
        return self.inner(model, batch, step)


@recorded
class Scripted(Objective):
    """The ELBO with a monitor that follows a script: one value for each epoch of `steps` steps."""

    monitor = "script"

    def __init__(self, script, steps, settles=0, *, lower=False):
        super().__init__()
        self.inner, self.script, self.steps, self.settles = ELBO(), script, steps, settles
        self.maximize = not lower

    @property
    def settled(self):
        return self.settles

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        epoch = max(0, round(float(step)) // self.steps - 1)
        value = self.script[min(epoch, len(self.script) - 1)]
        if model.training and not math.isfinite(value):  # in a training step it would stop the run at once
            value = 0.0
        outcome.terms["script"] = torch.full_like(outcome.terms["elbo"], value)
        return outcome


@recorded
class Poisoned(Stateful, Objective):
    """The ELBO until step `at`, where one thing is not finite; leaves the state before that step in SEEN."""

    def __init__(self, at, what):
        super().__init__()
        self.inner, self.at, self.what = ELBO(), at, what
        self.register_buffer("average", torch.zeros(()))

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        if float(step) != self.at or not model.training:
            return outcome
        SEEN.setdefault("good", copy.deepcopy(model.state_dict()))
        SEEN.setdefault("average", self.average.clone())
        if self.what == "distortion":
            outcome.terms["distortion"] = outcome.terms["distortion"] * torch.nan
            outcome.trace.log_px = outcome.trace.log_px * torch.nan
        elif self.what == "loss of model":
            outcome.losses["model"] = outcome.losses["model"] + torch.inf
        else:  # sqrt at 0: the loss is finite and its gradient is not
            weight = next(model.parameters())
            outcome.losses["model"] = outcome.losses["model"] + (weight * 0).sum().abs().sqrt()
        return outcome

    def statistics(self, trace, batch):
        return {"distortion": -trace.log_px.detach().sum(), "rows": torch.tensor(float(len(batch.x)))}

    def after_step(self, sums):
        self.average.lerp_(sums["distortion"] / sums["rows"], 0.5)


@recorded
class Counted(Stateful, Objective):
    """The ELBO; counts the calls of after_step in a buffer."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, model, batch, step):
        return self.inner(model, batch, step)

    def after_step(self, sums):
        self.count += 1
        SEEN["count"] = int(self.count)


@recorded
class Rivals(Objective):
    """The VAE and a critic of its latents: each wants the other's opposite, through one graph."""

    def __init__(self):
        super().__init__()
        self.inner, self.critic = ELBO(), nn.Linear(2, 1)

    def players(self, model):
        return {"model": list(model.parameters()), "critic": list(self.critic.parameters())}

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        verdict = self.critic(outcome.trace.latents[0].z).mean()
        losses = {
            "model": outcome.losses["model"] - 3 * verdict,
            "critic": 5 * verdict + self.critic.bias.square().sum(),
        }
        return Outcome(losses, outcome.terms, outcome.trace)


def parts(objective, **options):
    """Return model, objective, a batch and the optimisers, by plain gradient descent unless told otherwise."""
    of = data()
    made = recipe(of, objective)
    model, built = made.build(3)
    batch = of.train.matching(made.spec).batch(slice(0, 9))
    training = Training(**{"optimizer": "sgd", "lr": LR, **options})
    return model, built, batch, make_optimizers(built.players(model), training)


def take(model, objective, batch, optimizers, step=0, **options):
    """Take one update with the noise of that step."""
    reseed(5, step)
    return update(objective, model, optimizers, batch, torch.tensor(float(step)), Guard(torch.device("cpu")), **options)


def hear_every_tick(monkeypatch):
    """Let listeners hear every step, not four a second, by a clock that runs fast."""
    clock = itertools.count()
    log = importlib.import_module("lowerbound.train.log")
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))


def note_updates(monkeypatch):
    """Return a list that gets the learning rates and the number of rows of every update from now on."""
    module = importlib.import_module("lowerbound.train.learner")
    original, seen = module.update, []

    def noted(objective, model, optimizers, batch, *args):
        rates = [group["lr"] for optimizer in optimizers.values() for group in optimizer.param_groups]
        seen.append(SimpleNamespace(rates=rates, rows=len(batch.x)))
        return original(objective, model, optimizers, batch, *args)

    monkeypatch.setattr(module, "update", noted)
    return seen


class Ear:
    """A listener that keeps what it hears and calls back."""

    def __init__(self, on_event=lambda event: None, on_tick=lambda epoch, step, steps: None):
        self.events, self.lines, self.ticks = [], [], []
        self.on_event, self.on_tick = on_event, on_tick

    def event(self, event):
        self.events.append(dict(event))
        self.on_event(event)

    def say(self, line):
        self.lines.append(line)

    def tick(self, epoch, step, steps):
        self.ticks.append((epoch, step, steps))
        self.on_tick(epoch, step, steps)
