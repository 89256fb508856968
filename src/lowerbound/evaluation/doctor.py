"""What is wrong with a model, and what to do about it: all measures of a latent space, put together and read.

The thresholds are for effects, not for p-values: with enough rows every model differs from its prior.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import torch

from ..core.errors import DataError, Incompatible, LowerboundError, UsageError
from ..core.model import VAE
from ..core.noise import Stream, generator
from ..data.dataset import Data, Dataset
from .aggregate import Aggregate, Match, aggregate, match, read_posteriors, top_of
from .calibration import Calibration, calibrate
from .code_usage import CodeUsage, code_usage
from .gaps import Gaps, gaps, sensitivity
from .importance import distortion_at_code, no_density_reason, score
from .number import Number, mean_number, number_line, shares, stamped
from .units import rate_per_dimension, rate_per_group

COLLAPSED = 0.1  # nats: telling two codes apart takes log 2 = 0.69
ACTIVE = 0.01  # variance of the posterior mean (Burda et al. 2016, arXiv 1509.00519, sec. 5.2)
POINT = 0.03  # sigma / sd(mu): a dimension that tells 33 codes apart, log(1 / 0.03) = 3.5 nats, in a VAE costs too much
HOLES = 0.1  # of draws of the prior; those of the codes' own law have 0.01
TOLD = 0.75  # accuracy of a classifier: at least half of the probability of either law lies elsewhere in the other
NARROW, WIDE = 0.6, 0.97  # coverage of 90 % intervals: four in ten miss; or normal q with a sigma 1.3 times too large
LOST = 0.25  # of the rate: a quarter of what is paid for z is lost again
LEAST_LOST = 1.0  # nats below which a gap is no fault, whatever its share
HOLE_CODES = 10_000  # training codes that holes are measured by, at most
DEAD = 0.5  # share of a book's codes that held-out rows use at least, if they have ten codes for each of its
RICHER = (" --posterior iaf", " --posterior full_normal")  # a flow cannot score what it did not draw
LISTED = 40  # dimensions that the text shows, at most
_SUBSET = 8  # key of a use of noise

Severity: TypeAlias = Literal["wrong", "fine"]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or was looked at and is fine.

    Args:
        name: "collapse", "codes", "autoencoder", "prior", "calibration" or "gaps".
        severity: "wrong" or "fine".
        sentence: what was found, with the numbers that say so.
        remedy: what to do, where something is wrong.
        command: how to do it.
    """

    name: str
    severity: Severity
    sentence: str
    remedy: str | None = None
    command: str | None = None


def _always(command: str) -> bool:
    """Take every command for one that works."""
    return True


@dataclass(frozen=True)
class Commands:
    """What the commands of remedies are made of.

    Args:
        run: the run.
        train: the command that trains such a model by the ELBO.
        by_elbo: True if the model was trained so.
        works: tells of a command whether it would be refused for this model or these data; default: none would be.
    """

    run: str
    train: str
    by_elbo: bool = False
    works: Callable[[str], bool] = _always

    def first(self, *endings: str) -> str | None:
        """Return the first command that works, of those that train with `endings`; None if all are refused."""
        return next((line for line in (f"{self.train}{more}" for more in endings) if self.works(line)), None)


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` measured, and what it means.

    Args:
        name: of the data.
        split: of the held-out rows, and their number `rows`.
        distortion: -E log p(x|z) of held-out rows, in nats and in the units of the data.
        rate: KL(q(z|x) || p(z)) of all latents.
        shuffled: distortion with the z of another row less that with its own: 0 if the decoder ignores z.
        codes: how each code book is used by all held-out rows; empty without books.
        rate_groups: KL of each latent group, top to bottom; empty for one group.
        rate_each: KL of each dimension of the top latent; empty if it does not split.
        spread_each: standard deviation of the posterior means over the rows, of each dimension.
        ratio_each: sigma / sd(mu) of each dimension, sigma the root of the mean variance of q: near 0, q is a point.
        active: number of dimensions whose posterior mean has a variance above 0.01; None where there are no dimensions.
        aggregate: of all training rows.
        match: held-out codes against the prior.
        calibration: of q, on simulated data.
        gaps: of the ELBO, on a few held-out rows.
        findings: what is wrong, the most urgent first, then what is fine.
        left_out: what could not be measured, and why.
        seed: of everything that was drawn.
        binarisation: how grey values became 0/1.
    """

    name: str
    split: str
    rows: int
    distortion: Number
    rate: Number
    shuffled: Number
    codes: tuple[CodeUsage, ...]
    rate_groups: tuple[float, ...]
    rate_each: tuple[float, ...]
    spread_each: tuple[float, ...]
    ratio_each: tuple[float, ...]
    active: int | None
    aggregate: Aggregate | None
    match: Match | None
    calibration: Calibration | None
    gaps: Gaps | None
    findings: tuple[Finding, ...]
    left_out: dict[str, str]
    seed: int
    binarisation: str = "none"

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings that need a remedy, the most urgent first."""
        return tuple(finding for finding in self.findings if finding.severity == "wrong")

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON."""
        parts = {k: v.to_json() if hasattr(v, "to_json") else v for k, v in vars(self).items()}
        lists = {k: list(v) for k, v in parts.items() if isinstance(v, tuple)}
        lists["codes"] = [vars(usage) for usage in self.codes]
        parts["aggregate"] = stamped(parts["aggregate"], split="train")
        numbers = stamped(parts | lists, split=self.split, binarisation=self.binarisation, seed=self.seed)
        return numbers | {"findings": [vars(finding) for finding in self.findings]}

    def __str__(self) -> str:
        return "\n".join([*_number_lines(self), "", *_table(self), *_finding_lines(self)])


def doctor(
    model: VAE,
    data: Data,
    *,
    rows: int = 1000,
    draws: int = 500,
    simulations: int = 1000,
    gap_rows: int = 50,
    gap_steps: int = 300,
    seed: int = 0,
    commands: Commands | None = None,
) -> Diagnosis:
    """Examine a model: is z used, is q more than a point, does the prior match the codes, is q right, what is lost?

    The aggregate posterior is that of all training rows; everything else is of held-out rows: the test rows, or the
    validation rows without any. What means nothing for a model is left out, with the reason.

    Args:
        model: a trained model.
        data: the data it was trained on.
        rows: held-out rows, at most.
        draws: draws from the aggregate posterior; the time is in proportion to draws times training rows.
        simulations: simulated rows by which q is calibrated.
        gap_rows: held-out rows on which the best q is searched for.
        gap_steps: steps of that search.
        seed: decides everything that is drawn.
        commands: what the remedies' commands are made of; default: a `vae` of the same data and latent size.

    Raises:
        UsageError: if there are fewer than 2 rows.
        DataError: if the data have neither test nor validation rows, or do not fit the model.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> run = lb.fit(lb.recipes.beta_vae(data.spec, beta=50.0, latent_dim=2, hidden=(16,)), data, epochs=2,
    ...     progress=False)
    >>> found = doctor(run.model, data, rows=100, draws=50, gap_rows=5, gap_steps=5)
    >>> found.wrong[0].name, found.wrong[0].command
    ('collapse', 'lowerbound train vae --data digits --latent-dim 2 --objective free_bits')
    """
    if rows < 2:
        raise UsageError(f"a model cannot be examined on {rows} rows", expected="2 or more")
    unseen = data.test if len(data.test) else data.valid
    if len(unseen) < 2:
        raise DataError(f"{data.spec.name} has {len(unseen)} held-out rows", expected="2 test or validation rows")
    spec = model.spec or data.spec
    train, unseen = (part.matching(spec).to(model.device) for part in (data.train, unseen))
    held, coded = _some(unseen, rows, seed), _some(train, HOLE_CODES, seed)
    look = _Look({})
    spread, ratio = look("spread", lambda: _spread(model, held)) or ((), ())
    distortion, rate = _first_numbers(model, held, seed)
    measured: dict[str, Any] = {
        "distortion": distortion,
        "rate": rate,
        "shuffled": sensitivity(model, held, seed=seed),
        "codes": look("code books", lambda: code_usage(model, unseen)) or () if _has_codes(model) else (),
        "rate_groups": look("rate of each group", lambda: _rate_groups(model, held, seed)) or (),
        "rate_each": look("rate of each dimension", lambda: tuple(rate_per_dimension(model, held).tolist())) or (),
        "spread_each": spread,
        "ratio_each": ratio,
        "active": sum(s**2 > ACTIVE for s in spread) if spread else None,
        "aggregate": look("aggregate posterior", lambda: aggregate(model, train, draws=draws, seed=seed)),
        "match": look("prior", lambda: match(model, coded, held, seed=seed)),
        "calibration": look("calibration", lambda: calibrate(model, held, simulations=simulations, seed=seed)),
        "gaps": look("gaps", lambda: gaps(model, held, rows=gap_rows, steps=gap_steps, seed=seed)),
    }
    facts = {"name": held.spec.name, "split": held.split, "rows": len(held), "left_out": look.left_out, "seed": seed}
    facts["binarisation"] = held.spec.binarize
    found = Diagnosis(**facts, **measured, findings=())
    every = _findings(found, model, commands or default_commands(model, data))
    ordered = sorted(every, key=lambda finding: finding.severity == "fine")
    return Diagnosis(**facts, **measured, findings=tuple(ordered))


def default_commands(model: VAE, data: Data) -> Commands:
    """Return commands for a model that is no run: the plain recipe, on data from the same place."""
    source = (data.origin or {}).get("source", "PATH")
    shape = top_of(model).posterior_family.event_shape
    size = f" --latent-dim {shape[0]}" if len(shape) == 1 else ""
    recipe = "sequence_vae" if data.spec.kind == "sequence" else "cvae" if model.conditional else "vae"
    return Commands("RUN", f"lowerbound train {recipe} --data {shlex.quote(source)}{size}")


@dataclass(frozen=True)
class _Look:
    """Measures what can be measured, and notes why the rest cannot."""

    left_out: dict[str, str]

    def __call__(self, name: str, measure: Callable[[], Found]) -> Found | None:
        try:
            return measure()
        except LowerboundError as error:
            self.left_out[name] = str(error).splitlines()[0]
            return None


def _some(rows: Dataset, count: int, seed: int) -> Dataset:
    """Return so many random rows, or all, in random order."""
    order = torch.randperm(len(rows), generator=generator(Stream.EVALUATION, seed, _SUBSET))
    return rows.rows(order[:count].to(rows.x.device))


def _first_numbers(model: VAE, rows: Dataset, seed: int) -> tuple[Number, Number]:
    """Return distortion and rate."""
    if not model.has_density:
        distortion = mean_number(distortion_at_code(model, rows), shares(rows), kind="exact")
        return distortion, Number(None, reason=no_density_reason(model))
    scores = score(model, rows, num_samples=10, seed=seed)
    distortion, rate = (mean_number(v, shares(rows), kind="estimate") for v in (scores.distortion, scores.rate))
    return distortion, rate


def _rate_groups(model: VAE, rows: Dataset, seed: int) -> tuple[float, ...]:
    return tuple(rate_per_group(model, rows, seed=seed).tolist()) if len(model.groups) > 1 else ()


def _spread(model: VAE, rows: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return sd(mu) and sigma / sd(mu) of each dimension of the top latent."""
    family = top_of(model).posterior_family
    if family.support in ("onehot", "simplex", "sphere", "product", "codes"):
        raise Incompatible(f"the dimensions of {type(family).__name__} mean nothing alone")
    pairs = read_posteriors(model, rows, lambda q, i: (q.mean.flatten(1).double(), q.variance.flatten(1).double()))
    means, variances = (torch.cat(part).cpu() for part in zip(*pairs, strict=True))
    deviation = means.std(0)
    ratio = variances.mean(0).sqrt() / deviation.clamp_min(torch.finfo(torch.float64).tiny)
    return tuple(deviation.tolist()), tuple(ratio.tolist())


def _findings(found: Diagnosis, model: VAE, commands: Commands) -> list[Finding]:
    causes = [
        _collapse(found, model, commands),
        _books(found, commands),
        _autoencoder(found, model, commands),
        _prior(found, model, commands),
    ]
    effects = [_calibration(found, commands), _gaps(found, commands)]
    if any(finding is not None and finding.severity == "wrong" for finding in causes):
        effects = [finding and _later(finding) for finding in effects]
    return [finding for finding in (*causes, *effects) if finding is not None]


def _later(finding: Finding) -> Finding:
    """Return the finding without a remedy of its own: what else is wrong may be its cause."""
    if finding.severity == "fine":
        return finding
    return replace(finding, remedy="repair what stands above first: it may be the reason", command=None)


def _collapse(found: Diagnosis, model: VAE, commands: Commands) -> Finding | None:
    cost, rate = found.shuffled, found.rate.value
    if cost.value is None:
        return None
    paid = "" if rate is None else f", and the rate is {rate:.2f} nats"
    numbers = f"decoded from the code of another row, a row costs {_with_se(cost)} nats more{paid}"
    if cost.value >= COLLAPSED and (rate is None or rate >= COLLAPSED):
        unused = [str(i + 1) for i, rate in enumerate(found.rate_groups) if rate < COLLAPSED]
        if unused:
            return _unused(found, unused, numbers, commands)
        active = "" if found.active is None else f"; {found.active} of {len(found.spread_each)} dimensions are active"
        return Finding("collapse", "fine", f"z is used: {numbers}{active}")
    free, per = " --objective free_bits", " --objective.per group"
    endings = (free, f"{free}{per}") if top_of(model).posterior_family.factorised else (f"{free}{per}",)
    command, said = commands.first(*endings), f"the posterior has collapsed, the decoder ignores z: {numbers}"
    remedy = "let each dimension use some nats for nothing, and weigh the rate by 1 beyond"
    if command is None:  # codes have a rate that no objective lowers
        remedy = "train longer, or take a decoder that can do less on its own"
    return Finding("collapse", "wrong", said, remedy, command)


def _books(found: Diagnosis, commands: Commands) -> Finding | None:
    if not found.codes:
        return None
    said = "; ".join(
        f"{u.used} of {u.classes} in use, as many as {u.perplexity:.1f} of the same frequency" for u in found.codes
    )
    worst = min(found.codes, key=lambda u: u.used / u.classes)
    if worst.used >= DEAD * worst.classes or worst.codes < 10 * worst.classes:
        return Finding("codes", "fine", f"codes are alive: {said}")
    return Finding(
        "codes",
        "wrong",
        f"most codes of a book are dead: {said}",
        "take fewer codes, or levels in place of a book (recipe fsq_vae)",
        commands.first(f" --classes {worst.used}"),
    )


def _has_codes(model: VAE) -> bool:
    return any(group.posterior_family.support == "codes" for group in model.groups)  # pyright: ignore


def _unused(found: Diagnosis, unused: list[str], numbers: str, commands: Commands) -> Finding:
    which = f"level{'s' * (len(unused) > 1)} {', '.join(unused)} of {len(found.rate_groups)} (1 is the top)"
    return Finding(
        "collapse",
        "wrong",
        f"{which} carr{'y' if len(unused) > 1 else 'ies'} less than {COLLAPSED} nats: {numbers}",
        "let each level use some nats for nothing, or take fewer levels",
        commands.first(" --objective free_bits --objective.per group --objective.floor 0.5"),
    )


def _autoencoder(found: Diagnosis, model: VAE, commands: Commands) -> Finding | None:
    pairs = zip(found.ratio_each, found.spread_each, strict=True)
    active = [ratio for ratio, spread in pairs if spread**2 > ACTIVE]
    if not active or not model.has_density:
        return None
    ratio = float(torch.tensor(active).median())
    size = f"sigma is {ratio:.2g} of the spread of mu (median of {len(active)} active dimensions)"
    if ratio >= POINT:
        return Finding("autoencoder", "fine", f"q is a cloud and no point: {size}")
    more, remedy = "", "train with the rate at its full weight"
    if type(model.decoder.family).__name__ == "FixedNormal":
        more, remedy = " --likelihood shared_normal", "learn the likelihood's variance, which says what noise is worth"
    elif commands.by_elbo:
        more, remedy = " --objective elbo --objective.beta 4", "give the rate more weight, or take fewer dimensions"
    return Finding(
        "autoencoder",
        "wrong",
        f"an autoencoder in disguise: {size}; each q(z|x) is all but a point, and what lies between was never decoded",
        remedy,
        commands.first(more),
    )


def _prior(found: Diagnosis, model: VAE, commands: Commands) -> Finding | None:
    m = found.match
    if m is None:
        return None
    farthest = max(range(len(m.distances)), key=lambda d: m.distances[d])
    numbers = (
        f"{100 * m.holes:.0f} % of its draws lie in holes (1 % if it were the codes' law), a classifier tells them "
        f"from held-out codes in {100 * m.classifier.accuracy:.0f} % of cases (50 %: not at all), and dimension "
        f"{farthest} differs most, by {m.distances[farthest]:.2f} in its distribution function"
    )
    if m.holes <= HOLES and m.classifier.accuracy <= TOLD:
        return Finding("prior", "fine", f"the prior is about where the codes are: {numbers}")
    said = f"the prior is not where the codes are, so samples come from what the decoder never saw: {numbers}"
    if _is_flat(top_of(model)):
        fit = f"lowerbound fit-prior {commands.run} --prior mixture"
        if commands.works(fit):
            how = "fit another prior to the codes; encoder and decoder stay as they are"
            return Finding("prior", "wrong", said, how, fit)
    learned = commands.first(" --prior vamp")
    how = "learn the prior, too" if learned else "give the rate more weight, which moves the codes to the prior"
    return Finding("prior", "wrong", said, how, learned or commands.first(" --objective elbo --objective.beta 4"))


def _is_flat(group: Any) -> bool:
    """Tell whether z is a vector without a curvature of its own, for which a mixture of normals can be a prior."""
    return group.posterior_family.support == "real" and not group.posterior_family.space


def _calibration(found: Diagnosis, commands: Commands) -> Finding | None:
    c = found.calibration
    if c is None:
        return None
    mean = sum(c.coverage) / len(c.coverage)
    verdicts = ", ".join(f"{c.verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(c.verdicts))
    numbers = f"its 90 % intervals cover {100 * mean:.0f} % of the z behind simulated data ({verdicts})"
    if NARROW <= mean <= WIDE:
        said = "calibrated" if set(c.verdicts) == {"calibrated"} else "off by no more than is usual"
        return Finding("calibration", "fine", f"q is {said}: {numbers}")
    return Finding(
        "calibration",
        "wrong",
        f"q is too {'narrow' if mean < NARROW else 'wide'}: {numbers}",
        "take a richer family of q",
        commands.first(*RICHER),
    )


def _gaps(found: Diagnosis, commands: Commands) -> Finding | None:
    g, rate = found.gaps, found.rate.value
    if g is None or g.approximation.value is None or g.amortisation.value is None or rate is None:
        return None
    numbers = (
        f"{_with_se(g.approximation)} nats to the family of q (approximation gap) and {_with_se(g.amortisation)} nats "
        f"to the encoder (amortisation gap), of a rate of {rate:.2f}"
    )
    if max(g.approximation.value, g.amortisation.value) <= max(LOST * rate, LEAST_LOST):
        return Finding("gaps", "fine", f"the ELBO loses little: {numbers}")
    said = f"the ELBO loses much: {numbers}"
    if g.amortisation.value <= g.approximation.value:
        return Finding("gaps", "wrong", said, "take a richer family of q", commands.first(*RICHER))
    larger = {" conv_vae ": " --channels 64 128", " sequence_vae ": " --width 256"}
    likely = next((words for name, words in larger.items() if name in commands.train), " --hidden 1024 512")
    bare = replace(commands, train=re.sub(r" --(channels|hidden|width)( \d+)+", "", commands.train))
    command = bare.first(likely, *larger.values())
    return Finding("gaps", "wrong", said, "take a larger encoder, or more rows to learn from", command)


def _with_se(number: Number) -> str:
    return f"{number.value:.2f}" + ("" if number.se is None else f" +- {number.se:.2f}")


def _number_lines(found: Diagnosis) -> list[str]:
    facts = f"binarisation {found.binarisation}, seed {found.seed}"
    lines = [f"{found.rows:,} {found.split} rows of {found.name}, {facts}", ""]
    lines += [number_line(name, getattr(found, name)) for name in ("distortion", "rate", "shuffled")]
    if found.rate_groups:
        each = ", ".join(f"{rate:.2f}" for rate in found.rate_groups)
        lines.append(f"{'of each group':<13} {each}  (the rate, top to bottom)")
    a, g, m = found.aggregate, found.gaps, found.match
    if a is not None:
        full = (a.mutual_information.value or 0) > a.ceiling - 1
        lines += [
            number_line("information", a.mutual_information),
            f"{'':<13} of all {a.rows:,} training rows, at most log N = {a.ceiling:.2f}"
            + (", which it has reached: there may be far more" if full else ""),
            number_line("correlation", a.total_correlation),
            f"{'':<13} total correlation, biased upwards" + (" by what the information lacks" if full else ""),
            number_line("dimension KL", a.dimension_kl),
        ]
    if g is not None:
        lines += [number_line(name, getattr(g, name)) for name in ("log_px", "approximation", "amortisation")]
        lines.append(f"{'':<13} of {g.log_px.n} rows; best q after {g.steps} steps")
    if m is not None:
        lines += [
            f"{'holes':<13} {m.holes:9.3f} +- {m.holes_se:.3f}  (of the prior's draws; {m.codes:,} training codes)",
            f"{'classifier':<13} {m.classifier.accuracy:9.3f} +- {m.classifier.se:.3f}  (accuracy, codes against the "
            f"prior's draws; p = {m.classifier.p_value:.2g})",
            f"{'MMD^2':<13} {m.mmd.mmd:9.4f}  (the same; p = {m.mmd.p_value:.2g}); KS below: {m.against}",
        ]
    return lines


def _table(found: Diagnosis) -> list[str]:
    """Return a line for each dimension of the top latent, the dearest first."""
    columns: list[tuple[str, tuple[Any, ...], str]] = [
        ("rate", found.rate_each, "{:.3f}"),
        ("sd(mu)", found.spread_each, "{:.3f}"),
        ("sigma/sd(mu)", found.ratio_each, "{:.3g}"),
    ]
    if found.match is not None:
        columns += [("KS", found.match.distances, "{:.3f}"), ("p(KS)", found.match.p_values, "{:.2g}")]
    if found.calibration is not None:
        columns += [("covers 90 %", found.calibration.coverage, "{:.3f}"), ("q is", found.calibration.verdicts, "{}")]
    columns = [column for column in columns if column[1]]
    if not columns:
        return []
    size = len(columns[0][1])
    columns = [column for column in columns if len(column[1]) == size]
    order = sorted(range(size), key=lambda d: -columns[0][1][d])[:LISTED]
    lines = ["dimension" + "".join(f"{name:>14}" for name, _, _ in columns)]
    lines += [f"{d:>9}" + "".join(f"{form.format(values[d]):>14}" for _, values, form in columns) for d in order]
    return [*lines, *([f"... and {size - LISTED} more"] if size > LISTED else []), ""]


def _finding_lines(found: Diagnosis) -> list[str]:
    lines = [] if found.wrong else ["nothing wrong was found", ""]
    for finding in found.findings:
        lines.append(f"{finding.severity:<6} {finding.sentence}")
        lines += [f"       remedy: {finding.remedy}"] if finding.remedy else []
        lines += [f"       {finding.command}"] if finding.command else []
    for reason in dict.fromkeys(found.left_out.values()):
        names = [name for name, why in found.left_out.items() if why == reason]
        lines.append(f"left out: {', '.join(names)} ({reason})")
    return lines
