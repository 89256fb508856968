"""A result as a page: when, where and by which command it came about, and what came out."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

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
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    head = [f"# {title}", "", f"{datetime.now(UTC).date()}, {machine}; {command}.", ""]
    fenced = [] if found is None else ["```", str(found), "```"]
    text = "\n".join([*head, *about, *fenced, ""])
    if out is not None:
        out.write_text(text, encoding="utf-8")
    return text
