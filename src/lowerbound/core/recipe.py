"""A recipe: a frozen record of the parts, the objective and the training defaults of one variant."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, get_args

import torch

from .errors import CorruptArtifact, UsageError
from .model import VAE, Conditional, Encoder, Group, inference
from .noise import Stream, seeded
from .objective import Objective, first_step
from .phases import FitPrior
from .record import describe, rebuild, recorded
from .rules import check_rules
from .spec import DataSpec
from .types import Batch

OptimizerName: TypeAlias = Literal["adam", "adamw", "sgd", "adamax"]
LrSchedule: TypeAlias = Literal["constant", "cosine", "constant_cosine", "step"]
AugmentName: TypeAlias = Literal["shift", "rotate", "flip", "crop"]
P = ParamSpec("P")


@recorded
@dataclass(frozen=True)
class Training:
    """How a recipe is trained unless told otherwise.

    Args:
        epochs: passes through the training data.
        batch_size: examples in one step.
        lr: learning rate.
        lr_schedule: "constant", "cosine" from lr to 0 over the whole training, "constant_cosine": constant for two
            thirds of the training, then by a cosine to 0, or "step": a tenth after half of it and a hundredth after
            three quarters.
        lr_warmup: steps over which the learning rate rises linearly to its place in the schedule.
        optimizer: "adam", "adamw", "sgd" or "adamax".
        weight_decay: L2 penalty of the optimiser.
        clip: the largest norm of a player's gradient; None leaves gradients as they are.
        micro_batch: examples of a step that are passed at a time; their gradients add up to that of the batch. None
            passes all at once, and fewer where the memory is full.
        skip_above: a step in which a player's gradient has a larger norm than this, before it is clipped, is left out
            and counted; None leaves out none.
        ema: decay of an exponential moving average of the weights, such as 0.999 (less in the first steps), which is
            validated and kept in their place; None keeps the weights themselves.
        patience: epochs without a better validation monitor before stopping; None never stops early.
        augment: how training images are changed in each batch: "shift", "rotate", "flip", "crop".

    Raises:
        UsageError: if a number is out of its range.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 1e-3
    lr_schedule: LrSchedule = "constant"
    lr_warmup: int = 0
    optimizer: OptimizerName = "adam"
    weight_decay: float = 0.0
    micro_batch: int | None = None
    clip: float | None = None
    skip_above: float | None = None
    ema: float | None = None
    patience: int | None = None
    augment: tuple[AugmentName, ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, get_args(OptimizerName)),
            ("learning rate schedule", self.lr_schedule, get_args(LrSchedule)),
            *(("augmentation", name, get_args(AugmentName)) for name in self.augment),
        ):
            if value not in known:
                raise UsageError(f"there is no {name} {value!r}", expected=", ".join(known))
        counts = {"number of epochs": self.epochs, "batch size": self.batch_size, "patience": self.patience}
        counts |= {"warm-up of the learning rate": self.lr_warmup}
        counts |= {"size of a micro-batch": self.micro_batch}
        for name, value in counts.items():
            if value is not None and not isinstance(value, int):
                raise UsageError(f"the {name} cannot be {value}", expected="a whole number")
        positive = {"batch size": self.batch_size, "learning rate": self.lr, "clip": self.clip}
        positive |= {"norm above which a step is left out": self.skip_above, "size of a micro-batch": self.micro_batch}
        for name, value in {**positive, "patience": self.patience}.items():
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"the {name} cannot be {value}", expected="a finite number above 0")
        least = {"number of epochs": self.epochs, "weight decay": self.weight_decay}
        for name, value in {**least, "warm-up of the learning rate": self.lr_warmup}.items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"the {name} cannot be {value}", expected="0 or more")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(f"the ema cannot be {self.ema}", expected="0 or more and below 1, such as 0.999")


@dataclass(frozen=True)
class Recipe:
    """The parts of one variant and how to train it; `build` makes fresh weights from a seed.

    Args:
        spec: the data it is for, with the binarisation settled.
        encoder: gives one feature for each group.
        groups: latent groups, top to bottom.
        decoder: the likelihood.
        objective: what is optimised.
        training: training defaults.
        after: what is fitted once the training is over, in order: other priors of z.
        name: the recipe function's name.
        options: the options it was called with.

    Raises:
        Incompatible: if the parts cannot mean anything together.
        ShapeError: if they do not fit each other or the data.
    """

    spec: DataSpec
    encoder: Encoder
    groups: Sequence[Group]
    decoder: Conditional
    objective: Objective
    training: Training = field(default_factory=Training)
    after: Sequence[FitPrior] = ()
    name: str = "custom"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = VAE(self.encoder, self.groups, self.decoder, self.spec)
        check_rules(model, self.objective, self.spec)
        _try_out(model, self.objective, self.spec)

    def build(self, seed: int = 0) -> tuple[VAE, Objective]:
        """Return the model and the objective with fresh weights drawn from `seed`."""
        with seeded(Stream.WEIGHTS, seed):
            return rebuild(describe(self._model())), rebuild(describe(self.objective))

    def replace(self, **changes: Any) -> "Recipe":
        """Return the recipe with some fields changed; the rules are checked again."""
        return replace(self, **changes)

    def describe(self) -> dict[str, Any]:
        """Return the recipe as JSON."""
        return {
            "name": self.name,
            "options": describe(self.options),
            "model": describe(self._model()),
            "objective": describe(self.objective),
            "training": describe(self.training),
            "after": describe(tuple(self.after)),
        }

    @classmethod
    def from_description(cls, description: Any) -> "Recipe":
        """Return the recipe that `describe` wrote as JSON.

        Raises:
            CorruptArtifact: if it is none.
        """
        keys = {"name", "options", "model", "objective", "training"}
        if not isinstance(description, dict) or not keys <= set(description):
            raise CorruptArtifact("the description of the recipe is incomplete", expected=", ".join(sorted(keys)))
        with seeded(Stream.WEIGHTS, 0):
            model, objective, training = (rebuild(description[k]) for k in ("model", "objective", "training"))
            after = rebuild(description.get("after", []))
        parts = isinstance(model, VAE) and isinstance(objective, Objective) and isinstance(training, Training)
        parts = parts and isinstance(after, tuple) and all(isinstance(phase, FitPrior) for phase in after)
        if not parts or model.spec is None:
            raise CorruptArtifact("the description of the recipe describes something else")
        groups = [g for g in model.groups if isinstance(g, Group)]
        name, options = str(description["name"]), rebuild(description["options"])
        return cls(model.spec, model.encoder, groups, model.decoder, objective, training, after, name, options)

    def _model(self) -> VAE:
        return VAE(self.encoder, self.groups, self.decoder, self.spec)


def _try_out(model: VAE, objective: Objective, spec: DataSpec) -> None:
    """Pass two blank examples through, so that shapes that do not fit are found before training starts."""
    y = torch.eye(spec.num_classes)[[0, spec.num_classes - 1]] if spec.classes else None
    with inference(model), seeded(Stream.TRAINING, 0):
        objective(model, Batch(torch.zeros(2, *spec.shape), y=y), first_step())


RecipeFunction: TypeAlias = Callable[..., Recipe]
RECIPES: dict[str, RecipeFunction] = {}


def recipe(function: Callable[Concatenate[DataSpec, P], Recipe]) -> Callable[Concatenate[DataSpec, P], Recipe]:
    """Register a recipe function under its name and let its recipes know their name and options.

    Its first argument is the data's spec; its keyword-only arguments, with their defaults and docstring, are the
    options of the command line.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def named(spec: DataSpec, *args: P.args, **kwargs: P.kwargs) -> Recipe:
        if not isinstance(spec, DataSpec):
            raise UsageError(f"{function.__name__} was given a {type(spec).__name__}", expected="data.spec")
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:
            near = get_close_matches(unknown[0], signature.parameters, 1)
            known = ", ".join(list(signature.parameters)[1:])
            fix = f"did you mean {near[0]}?" if near else ""
            raise UsageError(f"{function.__name__} has no option {unknown[0]!r}", expected=known, fix=fix)
        bound = signature.bind(spec, *args, **kwargs)
        bound.apply_defaults()
        options = dict(list(bound.arguments.items())[1:])
        size = options.get("latent_dim", 1)
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"latent_dim cannot be {size!r}", expected="a whole number above 0")
        with seeded(Stream.WEIGHTS, 0):
            made = function(spec, *args, **kwargs)
        return made.replace(name=function.__name__, options=options)

    RECIPES[function.__name__] = named
    return named
