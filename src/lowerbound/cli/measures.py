"""What `lowerbound evaluate --also NAME` measures beside the first numbers: one row in a table for each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch

from ..core.errors import Incompatible, UsageError
from ..core.model import VAE
from ..core.noise import Stream, generator
from ..data import Data
from ..data.corruptions import CorruptionName, corruption
from ..data.dataset import Dataset
from ..evaluation.annealed import Annealing, annealed, bidirectional, rate_distortion
from ..evaluation.fidelity import sample_quality
from ..evaluation.importance import Units
from ..evaluation.inception import inception_features
from ..evaluation.likelihood import target_of
from ..evaluation.number import Number, mean_number, number_line, shares
from ..evaluation.reconstruction import column_errors, reconstruction
from ..evaluation.representation import representation
from .common import Opened, own_data
from .output import say

Measure: TypeAlias = Literal["annealed", "rate-distortion", "samples", "representation", "reconstruction"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
SHOWN_BETAS = 8  # lines of the curve that are printed; all are saved


@runtime_checkable
class Measured(Protocol):
    """What a measure returns: numbers as JSON and as text."""

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        ...


@dataclass(frozen=True)
class Asked:
    """A run, its rows, and the options that measures read.

    Args:
        opened: the run's folder, model, spec and rows.
        seed: decides everything that is drawn.
        units: whose units densities are in.
        num_samples: K.
        annealing: temperatures and chains.
        rows: how many rows are annealed, drawn at random.
        corruption: what reconstructions are corrupted by, and how much.
        fid_weights: a file of Inception's weights.
    """

    opened: Opened
    seed: int
    units: Units
    num_samples: int
    annealing: Annealing = field(default_factory=Annealing)
    rows: int = 100
    corruption: tuple[CorruptionName, float] | None = None
    fid_weights: Path | None = None

    @property
    def model(self) -> VAE:
        """The run's model."""
        return self.opened.model

    @cached_property
    def data(self) -> Data:
        """The run's own data."""
        return own_data(self.opened.folder, self.opened.spec)

    def some(self, rows: Dataset, place: int) -> Dataset:
        """Return so many of the rows at random, in their order."""
        if self.rows >= len(rows):
            return rows
        order = torch.randperm(len(rows), generator=generator(Stream.SHOWN, self.seed, place))
        return rows.rows(order[: self.rows].sort().values.to(rows.x.device))


@dataclass(frozen=True)
class Written:
    """Numbers of a measure, by name, and its text."""

    numbers: dict[str, Any]
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        return {k: v.to_json() if isinstance(v, Number) else v for k, v in self.numbers.items()}

    def __str__(self) -> str:
        return self.text


def measure(name: Measure, asked: Asked) -> Measured:
    """Return the numbers of one measure."""
    return _TABLE[name](asked)


def _annealed(asked: Asked) -> Written:
    """Log p(x) of some rows by annealed importance sampling, and the gap on data that the model draws."""
    rows, model = asked.some(asked.opened.rows, 0), asked.model
    tune = asked.some(asked.data.train.matching(asked.opened.spec).to(model.device), 1)
    how = asked.annealing
    say(f"annealed: {len(rows):,} rows, {how.chains} chains of {how.steps} temperatures from the {how.start}")
    found = annealed(model, rows, how, tune=tune, seed=asked.seed, units=asked.units)
    share, target = shares(rows), target_of(model, rows)
    mc_se = float((share.square() * found.variance).sum().sqrt()) if how.chains > 1 else None
    nll = mean_number(
        -found.log_px, share, kind="bound", side="upper", mc_se=mc_se, num_samples=how.chains, target=target
    )
    lines, numbers = [number_line("nll_annealed", nll)], {"nll_annealed": nll, "accepted": found.accepted}
    if rows.seen is None:
        line, numbers["gap"] = _gap(asked, rows)
        lines.append(line)
    lines.append(f"moves accepted: {100 * found.accepted:.0f} %; sizes tuned on {len(tune):,} training rows")
    settings = {"steps": how.steps, "chains": how.chains, "leapfrogs": how.leapfrogs, "start": how.start}
    return Written({**numbers, **settings, **_facts(asked, rows)}, "\n".join(lines))


def _gap(asked: Asked, rows: Dataset) -> tuple[str, dict[str, Any]]:
    """Return the gap of the bounds on rows that the model draws, or why there is none."""
    try:
        gap = bidirectional(asked.model, rows, asked.annealing, seed=asked.seed, units=asked.units)
    except Incompatible as error:
        none = Number(None, reason=str(error).splitlines()[0])
        return number_line("gap", none), none.to_json()
    spread = "" if gap.se is None else f" +- {gap.se:.3f}"
    line = f"gap of the bounds on log p(x) of {gap.n:,} examples that the model drew: {gap.gap:.3f}{spread} nats"
    return f"{line} ({gap.lower:.3f} to {gap.upper:.3f})", gap.to_json()


def _rate_distortion(asked: Asked) -> Written:
    """Return the curve of the decoder over beta, whatever the encoder."""
    rows, model = asked.some(asked.opened.rows, 0), asked.model
    tune = asked.some(asked.data.train.matching(asked.opened.spec).to(model.device), 1)
    how = replace(asked.annealing, start="prior")
    say(f"rate-distortion: {len(rows):,} rows, {how.chains} chains of {how.steps} temperatures")
    curve = rate_distortion(model, rows, how, tune=tune, seed=asked.seed, units=asked.units)
    lines = [f"{'beta':>8} {'rate <=':>10} {'distortion':>12}   (nats; the best code of this decoder at each beta)"]
    for place in torch.linspace(0, how.steps, SHOWN_BETAS).round().long().unique().tolist():
        values = (float(curve.beta[place]), float(curve.rate[place]), float(curve.distortion[place]))
        lines.append("{:8.4f} {:10.3f} {:12.3f}".format(*values))
    return Written({**curve.to_json(), **_facts(asked, rows)}, "\n".join(lines))


def _samples(asked: Asked) -> Measured:
    extractor = None if asked.fid_weights is None else inception_features(asked.fid_weights)
    return sample_quality(
        asked.model, asked.data, held_out=asked.opened.rows, seed=asked.seed, extractor=extractor, say=say
    )


def _representation(asked: Asked) -> Measured:
    return representation(
        asked.model,
        asked.data,
        test=asked.opened.rows,
        num_samples=asked.num_samples,
        seed=asked.seed,
        units=asked.units,
    )


def _reconstruction(asked: Asked) -> Measured:
    """Return PSNR, SSIM and MS-SSIM of images, errors of the columns of a table."""
    if asked.opened.spec.kind == "image":
        module = None if asked.corruption is None else corruption(*asked.corruption)
        return reconstruction(asked.model, asked.opened.rows, corruption=module, seed=asked.seed)
    if asked.corruption is not None:
        raise UsageError(f"{asked.opened.spec.name} holds no images to corrupt", fix="leave out --corruption")
    found = column_errors(asked.model, asked.opened.rows)
    units = {c.name: "root mean squared error" if c.real else "share right" for c in asked.opened.spec.modelled}
    lines = [number_line(name, number, units[name]) for name, number in found.items()]
    return Written({**found, **_facts(asked, asked.opened.rows)}, "\n".join(lines))


def _facts(asked: Asked, rows: Dataset) -> dict[str, Any]:
    """Return what every number is of."""
    return {"split": rows.split, "binarisation": rows.spec.binarize, "seed": asked.seed, "units": asked.units}


_TABLE: dict[Measure, Callable[[Asked], Measured]] = {
    "annealed": _annealed,
    "rate-distortion": _rate_distortion,
    "samples": _samples,
    "representation": _representation,
    "reconstruction": _reconstruction,
}
