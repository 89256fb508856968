"""Runs side by side as one HTML page: numbers, differences, curves, and what they make of the same rows and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import LowerboundError
from ..evaluation import rate_per_dimension
from . import figures, html
from .modalities import has_pictures
from .pictures import Picture, Shown, first_line, reconstructed, samples
from .report import command, earlier_prior, epoch_lines, of_units, picture_html, tug_points
from .run_files import RunFiles, inside, number

COLUMNS = 10


@dataclass(frozen=True)
class Side:
    """One run of a comparison.

    Args:
        name: of the run.
        files: its files.
        shown: its model and the rows that all were scored on.
        numbers: its evaluation as JSON.
    """

    name: str
    files: RunFiles
    shown: Shown
    numbers: Mapping[str, Any]


def comparison_page(
    sides: Sequence[Side], *, numbers: Sequence[str], options: Mapping[str, Sequence[Any]], words: Sequence[str]
) -> str:
    """Return the comparison of runs as an HTML page.

    Args:
        sides: the runs; the first is what the others are compared with.
        numbers: which numbers to show, by name.
        options: the options in which the runs differ, with each run's value.
        words: what the numbers are about, and the differences, in words.
    """
    names = [side.name for side in sides]
    rows = [[name, *(_number(side.numbers, name) for side in sides), _kind(sides, name)] for name in numbers]
    shown = {name: ["-" if v is None else html.value_text(v) for v in values] for name, values in options.items()}
    differing = [[name, *values] for name, values in shown.items()]
    sections = {
        "Numbers": html.table(["", *names, "kind"], rows) + "".join(f"<p>{html.text(line)}</p>" for line in words),
        "How they differ": html.table(["", *names], differing) if differing else html.words("In no option."),
        "Training": _training(sides),
        **{
            picture.name: picture_html(picture)
            for picture in (_reconstructions(sides), *_samples(sides), _rates(sides))
        },
        "Commands": "\n".join(f"<h3>{html.text(side.name)}</h3>{command(side.files)}" for side in sides),
        "Environments": _environments(sides),
    }
    title = " against ".join(names) if len(names) == 2 else ", ".join(names)
    recipes = ", ".join(f"{side.name}: {side.files.recipe.get('name', '?')}" for side in sides)
    return html.document(title, f"<h1>{html.text(title)}</h1>\n<p>{html.text(recipes)}</p>", sections)


def _number(held: Mapping[str, Any], name: str) -> str:
    found = inside(dict(held), name)
    value, se = number(found.get("value")), number(found.get("se"))
    if value is None:
        return f"- ({found.get('reason', 'no reason is given')})"
    return f"{value:.3f}" if se is None else f"{value:.3f} +- {se:.3f}"


def _kind(sides: Sequence[Side], name: str) -> str:
    kinds = [inside(dict(side.numbers), name).get("kind") for side in sides]
    return ", ".join(dict.fromkeys(str(kind) for kind in kinds if kind))


def _training(sides: Sequence[Side]) -> str:
    notes = {side.name: note for side in sides if (note := earlier_prior(side.files))}
    drawn = [f"<p>{html.text(f'{name}: {note}')}</p>" for name, note in notes.items()]
    units = next((said for side in sides if (said := of_units(side.files))), "")
    lines = {side.name: line for side in sides if (line := _judged(side.files))}
    if lines:
        figure = figures.curves(lines, x="epoch", y="-elbo (nats)", markers=True)
        text = f"-elbo of the validation rows (training rows where there are none), nats for each example{units}."
        drawn.append(html.picture(figures.png_of(figure), text))
    ways = {side.name: points for side in sides if (points := tug_points(side.files))}
    if ways:
        text = f"Distortion against rate after each epoch, nats for each example{units}."
        drawn.append(html.picture(figures.png_of(figures.tug_of_war(ways)), text))
    return "\n".join(drawn) or html.words("None of them has an epoch with an ELBO.")


def _judged(files: RunFiles) -> list[tuple[float, float]] | None:
    """Return -elbo over the epochs, of the validation rows if there are any."""
    lines = epoch_lines(files, "elbo", -1)
    return lines.get("valid", lines.get("train"))


def _reconstructions(sides: Sequence[Side]) -> Picture:
    name, first = "Reconstructions of the same rows", sides[0].shown
    if not has_pictures(first.spec):
        return Picture(name, "None: these data are no images.")
    try:
        rows = [side.shown.rows.take(min(COLUMNS, len(side.shown.rows))) for side in sides]
        batch = rows[0].batch(slice(None))
        made = {" original": first.visible(batch.x, batch.mask if first.spec.modalities else None)}
        for side, own in zip(sides, rows, strict=True):
            made[side.name] = first.visible(reconstructed(side.shown, own)[1])
        figure = figures.rows_of_images(made, title="originals, and below them means of p(x|z) at the mean of q(z|x)")
    except LowerboundError as error:
        return Picture(name, f"None: {first_line(error)}")
    return Picture(name, f"The first {len(rows[0])} {first.rows.split} examples.", figure)


def _samples(sides: Sequence[Side]) -> list[Picture]:
    found = []
    for side in sides:
        name = f"Samples of {side.name}"
        try:
            made = samples(side.shown)
            found.append(Picture(name, made.text, made.figure, made.columns))
        except LowerboundError as error:
            found.append(Picture(name, f"None: {first_line(error)}"))
    return found


def _rates(sides: Sequence[Side]) -> Picture:
    rates, missing = {}, []
    for side in sides:
        try:
            rates[side.name] = rate_per_dimension(side.shown.model, side.shown.first_rows).float()
        except LowerboundError as error:
            missing.append(f"{side.name}: {first_line(error)}")
    figure = figures.rate_per_dimension(rates) if rates else None
    levels = " of the top latent" if any(len(side.shown.model.groups) > 1 for side in sides) else ""
    mean = "mean" if sides[0].shown.rows.weight is None else "weighted mean"
    text = f"KL(q(z_d|x) || p(z_d)) of each dimension{levels}, {mean} over the examples."
    return Picture("What each latent dimension costs", " ".join([text if rates else "None.", *missing]), figure)


def _environments(sides: Sequence[Side]) -> str:
    keys = dict.fromkeys(key for side in sides for key in side.files.env)
    rows = [[key, *(html.value_text(side.files.env.get(key)) for side in sides)] for key in keys]
    return html.table(["", *(side.name for side in sides)], rows) if rows else html.words("env.json says nothing.")


def comparison_path(folders: Sequence[Path]) -> Path:
    """Return the usual place of the page: beside the first run.

    >>> comparison_path([Path("runs/a"), Path("runs/b")]).as_posix()
    'runs/a-vs-b.html'
    """
    more = f"-and-{len(folders) - 2}-more" if len(folders) > 2 else ""
    first, second = (folder.name or folder.resolve().name for folder in folders[:2])
    return (folders[0] if folders[0].name else folders[0].resolve()).parent / f"{first}-vs-{second}{more}.html"
