"""A result as a page: when, where and by which command it came about, and what came out."""

import json
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch


def page(title: str, command: str, about: Sequence[str], found: object, out: Path | None) -> str:
    """Return the page as Markdown, and write it where a file is given.

    Args:
        title: of the page.
        command: what was run, with its settings.
        about: lines before the result.
        found: the result as plain text; None where it stands in `about`.
        out: the file; None writes nothing.
    """
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    head = [f"# {title}", "", f"{datetime.now(UTC).date()}, {machine}; {command}.", ""]
    fenced = [] if found is None else ["```", str(found), "```"]
    text = "\n".join([*head, *about, *fenced, ""])
    if out is not None:
        out.write_text(text, encoding="utf-8")
    return text


def kept(path: Path, asked: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray] | None:
    """Return the facts and numbers of a row that was measured before with what is asked, or None."""
    if not path.with_suffix(".json").exists() or not path.with_suffix(".npy").exists():
        return None
    facts = json.loads(path.with_suffix(".json").read_text())
    if any(facts[name] != json.loads(json.dumps(value)) for name, value in asked.items()):
        return None
    return facts, np.load(path.with_suffix(".npy"), allow_pickle=False)


def kept_rows(
    rows: Iterable[Any],
    options: Any,
    asked: Sequence[str],
    measure: Callable[[Any], tuple[dict[str, Any], np.ndarray]],
    *,
    name: str = "name",
    blank: str = ", ",
) -> Iterator[tuple[Any, dict[str, Any], np.ndarray]]:
    """Yield each row with its facts and numbers: as they are kept, else measured and kept.

    A row that was not measured with what is asked, and is none of `options.only`, is left out.

    Args:
        rows: with `options` and a name each.
        options: `folder`, where rows are kept, `only`, names of rows to measure (empty: all), and what is asked.
        asked: names of the options that, beside those of the row, a kept row must have been measured with.
        measure: measures a row.
        name: attribute of a row that is its name.
        blank: what is "-" in the name of a row's files.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        called = getattr(row, name)
        path = options.folder / called.replace(blank, "-")
        done = kept(path, {**{key: getattr(options, key) for key in asked}, "options": row.options})
        if done is None and options.only and called not in options.only:
            continue
        if done is None:
            done = measure(row)
            np.save(path.with_suffix(".npy"), done[1])
            path.with_suffix(".json").write_text(json.dumps(done[0], indent=1) + "\n")
        yield row, *done


def put_section(path: Path, title: str, text: str) -> None:
    """Write a section of a page, `# title` and text, in the place of the one that was there, or at the end."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^(?=# )", before, flags=re.MULTILINE)
    head, made = f"# {title}\n", f"# {title}\n\n{text.strip()}\n"
    places = [i for i, part in enumerate(parts) if part.startswith(head)]
    if places:
        parts[places[0]] = made
    else:
        parts.append(made)
    path.write_text("\n".join(part.strip() + "\n" for part in parts if part.strip()), encoding="utf-8")


def processor() -> str:
    """Return the processor by name and, since precisions differ by them, its instructions for bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {key.strip(): value.strip() for key, value in found.items()}
    low = [word for word in ("avx512_bf16", "amx_bf16") if word in known.get("flags", "").split()]
    return ", ".join([known.get("model name", platform.machine()), *low])
