"""Who may import whom, and what no module may do, read from the source and not from what happens to run."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import lowerbound

ROOT = Path(lowerbound.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TOP = {"recipes", "cli", "studio"}
# The packages of `lowerbound` that a package may import from; one that is not listed may use any below TOP.
MAY_IMPORT = {
    "core": {"core"},
    "families": {"core", "families"},
    "networks": {"core", "networks"},
    "objectives": {"core", "objectives"},
    "groups": {"core", "groups"},
    "flows": {"core", "flows"},
    "posteriors": {"core", "families", "flows", "posteriors"},
    "priors": {"core", "families", "flows", "networks", "priors"},
}
TORCH_ONLY = ("core", "families", "networks", "objectives", "groups", "priors", "posteriors")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}


def named(path):
    return path.relative_to(ROOT).as_posix()


def package(path):
    """Return the folder of `lowerbound` a file lies in, "" for the files beside it."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """Return the absolute dotted names a file imports anywhere, functions and TYPE_CHECKING included."""
    here = ("lowerbound", *path.relative_to(ROOT).parts)
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def siblings(path):
    """Return the packages of `lowerbound` that a file imports from."""
    inside = [name.split(".") for name in imported(path) if name.split(".")[0] == "lowerbound"]
    return {name[1] for name in inside if len(name) > 1 and (ROOT / name[1]).is_dir()}


def foreign(path):
    """Return what a file imports that is neither `lowerbound` nor the standard library."""
    return {name.split(".")[0] for name in imported(path)} - {"lowerbound"} - set(sys.stdlib_module_names)


def called(path):
    """Return the dotted names of all functions a file calls."""
    return [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def test_the_reader_of_imports_sees_relative_and_nested_ones():
    # Without this the tests below could pass by finding nothing.
    assert "lowerbound.core.spec.DataSpec" in imported(ROOT / "recipes" / "basic.py")
    assert "sklearn.datasets.load_digits" in imported(ROOT / "data" / "builtin.py")
    assert siblings(ROOT / "recipes" / "basic.py") >= {"core", "families", "networks", "objectives"}
    assert foreign(ROOT / "ship" / "save.py") == {"torch", "safetensors"}
    assert "load_file" in called(ROOT / "ship" / "save.py")


@pytest.mark.parametrize("path", [p for p in FILES if package(p) in MAY_IMPORT], ids=named)
def test_a_package_imports_only_from_the_packages_below_it(path):
    assert siblings(path) <= MAY_IMPORT[package(path)]


@pytest.mark.parametrize("path", [p for p in FILES if package(p) in TORCH_ONLY], ids=named)
def test_the_mathematics_needs_torch_and_jaxtyping_alone(path):
    assert foreign(path) <= {"torch", "jaxtyping"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_only_the_flows_import_zuko(path):
    assert "zuko" not in foreign(path) or package(path) == "flows"


@pytest.mark.parametrize("path", [p for p in FILES if package(p) not in TOP | {""}], ids=named)
def test_nothing_below_imports_recipes_command_line_or_studio(path):
    assert not siblings(path) & TOP


@pytest.mark.parametrize("path", [p for p in FILES if package(p) != "cli"], ids=named)
def test_only_the_command_line_prints(path):
    assert "print" not in called(path)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_module_can_read_a_pickle_or_run_text(path):
    assert not {part for name in imported(path) for part in name.split(".")} & PICKLES
    assert not [name for name in called(path) if name in ("eval", "exec", "compile", "__import__")]
    assert not [name for name in called(path) if name in ("torch.load", "torch.save", "torch.jit.load", "np.load")]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(tree(path)), f"{named(path)} has no docstring"
