"""Pieces of an HTML page that fetches and runs nothing: everything that files say is escaped."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .._version import __version__
from ..core.errors import UsageError
from ..ship.files import MANIFEST, write_text
from .run_files import clean

# nothing may be fetched or run, whatever a file smuggles into the page
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --back: #ffffff; --panel: #f3f5f7;
  --edge: #d0d7de; --link: #0b62c4; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b3; --back: #0f1318; --panel: #1a2027;
  --edge: #39424d; --link: #6cb0ff; --bad: #ff8f8f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--link); } .soft { color: var(--soft); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .pairs td { overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
pre { background: var(--panel); padding: .7rem; white-space: pre-wrap; border-radius: 4px; }
img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--edge); }
figure { margin: 0 0 1rem; } figcaption { color: var(--soft); }
"""
# of a figure's own size: at 144 dots an inch its 9-point text is then as large as the page's
SHOWN = 0.8


def document(title: str, head: str, sections: Mapping[str, str]) -> str:
    """Return a page.

    Args:
        title: of the window, as text.
        head: what stands above the sections, as HTML.
        sections: HTML by their headings.
    """
    body = "\n".join(f"<section>\n<h2>{text(name)}</h2>\n{html}\n</section>" for name, html in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n{head}\n</header>\n<main>\n{body}\n</main>\n"
        f'<footer class="soft"><p>Written by lowerbound {__version__}.</p></footer>\n</body>\n</html>\n'
    )


def page_path(path: Path) -> Path:
    """Return `path` if a page may be written there.

    Raises:
        UsageError: if it is no .html file, or its folder has a manifest: another file would damage it.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UsageError(f"a report cannot be written to {path}", expected="a file that ends in .html")
    if (path.parent / MANIFEST).exists():
        raise UsageError(
            f"{path.parent} is a saved model, to which no file may be added", fix="choose another place: --out FILE"
        )
    return path


def write_page(path: Path, html: str) -> Path:
    """Write a page; returns the path.

    Raises:
        UsageError: if its folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be a folder: {error.strerror}", fix="choose another --out") from error
    write_text(path, html)
    return path


def picture(png: bytes, caption: str) -> str:
    """Return a figure with its caption; the page holds the bytes of the image."""
    width, height = (round(int.from_bytes(png[at : at + 4], "big") * SHOWN) for at in (16, 20))  # of the PNG's header
    data = base64.b64encode(png).decode()
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{text(caption)}">'
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Return an HTML table; the cells are text."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    lines = []
    for row in rows:
        cells = (f"<td{' class=number' if i in numbers else ''}>{text(cell)}</td>" for i, cell in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def pairs(facts: Mapping[str, Any]) -> str:
    """Return names and values as an HTML table, "" if there are none."""
    rows = [f'<tr><th scope="row">{text(k)}</th><td>{text(value_text(v))}</td></tr>' for k, v in facts.items()]
    return f'<div class="wide"><table class="pairs"><tbody>\n{"".join(rows)}\n</tbody></table></div>' if rows else ""


def value_text(value: Any) -> str:
    """Return a value as people read it: lists with commas, large whole numbers in groups."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:,}" if type(value) is int and value > 9999 else str(value)


def words(value: object) -> str:
    """Return a paragraph of text."""
    return f'<p class="soft">{text(value)}</p>'


def text(value: object) -> str:
    """Return one line of text as HTML."""
    return escape(clean(" ".join(str(value).split())))


def lines(value: object) -> str:
    """Return lines of text as HTML that keeps them and their columns, for a <pre>."""
    return "\n".join(escape(clean(line.rstrip())) for line in str(value).splitlines())


def linked(html: str) -> str:
    """Make arXiv numbers in escaped text links."""
    return re.sub(r"arXiv:? ?(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', html)
