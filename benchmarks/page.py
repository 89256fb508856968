"""A result as a page: when, where and by which command it came about, and what came out."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
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
