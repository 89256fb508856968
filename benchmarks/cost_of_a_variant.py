"""What one more variant costs: the lines of each recipe, and all lines of the package that only this recipe reaches.

A line counts if it holds code: no blank, comment or docstring. A definition (a function, class or constant of a module)
reaches what its code names, through the imports of its module. Lines that a recipe alone reaches would go if it went.
`pylint` finds lines that stand in two files; it compares no file with itself and leaves out docstrings, imports and
signatures.

    python benchmarks/cost_of_a_variant.py [--out benchmarks/cost_of_a_variant.md]
"""

import argparse
import ast
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import lowerbound
from lowerbound import recipes

ROOT = Path(lowerbound.__file__).parent
OUT = Path(__file__).with_name("cost_of_a_variant.md")
Key = tuple[str, str]


@dataclass
class Module:
    """The definitions of one file, and where its imported names come from."""

    name: str
    tree: ast.Module
    defined: dict[str, ast.stmt] = field(default_factory=dict)
    imported: dict[str, Key] = field(default_factory=dict)


def read_package() -> dict[str, Module]:
    """Return all modules of the package by dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("lowerbound", *path.relative_to(ROOT).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        module = Module(".".join(parts), ast.parse(path.read_text(encoding="utf-8")))
        _fill(module, parts if is_package else parts[:-1])
        found[module.name] = module
    return found


def _fill(module: Module, package: tuple[str, ...]) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                module.imported[alias.asname or alias.name] = (source, alias.name)
    for node in module.tree.body:
        for name in _names_of(node):
            module.defined[name] = node


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def resolve(modules: dict[str, Module], source: str, name: str) -> Key | None:
    """Return where a name that is imported from a module is defined."""
    for _ in range(10):
        module = modules.get(source)
        if module is None:
            return None
        if name in module.defined and name not in module.imported:
            return source, name
        if name not in module.imported:
            return None
        source, name = module.imported[name]
    return None


def reached(modules: dict[str, Module], start: Key) -> set[Key]:
    """Return all definitions that code starting from one definition may come to."""
    seen: set[Key] = set()
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        module = modules[key[0]]
        for node in ast.walk(module.defined[key[1]]):
            if isinstance(node, ast.Name):
                other = resolve(modules, module.name, node.id)
                if other is not None and other not in seen:
                    waiting.append(other)
    return seen


def code_lines(node: ast.stmt) -> set[int]:
    """Return the numbers of the lines of a definition that hold code."""
    lines: set[int] = set()
    docs = {
        id(inner.body[0])
        for inner in ast.walk(node)
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None
    }
    for inner in ast.walk(node):
        if id(inner) in docs or not hasattr(inner, "lineno"):
            continue
        if isinstance(inner, ast.stmt | ast.expr | ast.arg | ast.keyword):
            lines |= {inner.lineno, inner.end_lineno} if isinstance(inner, ast.stmt) else {inner.lineno}
    hidden = set()
    for inner in ast.walk(node):
        if id(inner) in docs:
            hidden |= set(range(inner.lineno, inner.end_lineno + 1))
    return lines - hidden


def body_lines(node: ast.stmt) -> int:
    """Return how many lines of code the body of a function has, its signature left out."""
    assert isinstance(node, ast.FunctionDef)
    first = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
    return len({line for line in code_lines(node) if line >= first.lineno})


def duplicated() -> tuple[float, str]:
    """Return the share of lines that stand twice, in percent, and the command that finds them.

    It counts the places that pylint names: the percentage of its own report stays 0 whatever it finds (pylint 4.1).
    """
    words = ["--disable=all", "--enable=duplicate-code", "--min-similarity-lines=6", "src/lowerbound"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pylint", *words], capture_output=True, text=True, cwd=ROOT.parents[1], check=False
    )
    if done.returncode & 32:  # pylint's exit code for a wrong call
        raise SystemExit(f"pylint did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    twice: set[tuple[str, int]] = set()
    for message in done.stdout.split("(duplicate-code)"):
        for name, start, end in re.findall(r"^==([\w.]+):\[(\d+):(\d+)\]", message, re.MULTILINE)[1:]:
            twice |= {(name, line) for line in range(int(start), int(end))}
    total = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py"))
    return 100 * len(twice) / total, "pylint " + " ".join(words)


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    modules = read_package()
    starts = {name: resolve(modules, "lowerbound.recipes", name) for name in recipes.__all__}
    sets = {name: reached(modules, key) for name, key in starts.items() if key is not None}
    rows, signatures = [], []
    for name, mine in sets.items():
        others = set().union(*(keys for other, keys in sets.items() if other != name))
        alone = sorted(mine - others)
        lines = sum(len(code_lines(modules[m].defined[d])) for m, d in alone)
        key = starts[name]
        assert key is not None
        body = body_lines(modules[key[0]].defined[key[1]])
        signatures.append(body)
        parts = ", ".join(f"`{d}`" for _, d in alone if d != name) or "-"
        rows.append(f"| `{name}` | {body} | {lines} | {parts} |")
    text = (__doc__ or "").partition("\n\n    python")[0].split("\n\n", 1)[1].replace("\n", " ")
    share = "not counted: pylint is not installed"
    if importlib.util.find_spec("pylint") is not None:
        percent, command = duplicated()
        share = f"{percent:.2f} % (`{command}`)"
    head = [
        "# The cost of one more variant",
        "",
        f"{text} Written by `python benchmarks/cost_of_a_variant.py`.",
        "",
        f"{len(rows)} recipes; the longest body has {max(signatures)} lines of code, the median "
        f"{sorted(signatures)[len(signatures) // 2]}. Lines that stand in two files, in windows of six: {share}.",
        "",
        "| recipe | lines of its body | lines only it reaches | definitions only it reaches |",
        "|---|---|---|---|",
    ]
    options.out.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
