"""The code blocks of the documentation run, both languages have the same ones, and the table has every recipe."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowerbound.core.recipe import RECIPES
from lowerbound.recipes import __all__ as shipped

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = (ROOT / "README.md").read_text(), (ROOT / "README.zh-CN.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def table(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


@pytest.fixture
def unregistered():
    """Forget the recipes and parts that a documentation block adds."""
    from lowerbound.core import record

    recipes, parts = dict(RECIPES), dict(record._REGISTRY)
    yield
    for registry, before in ((RECIPES, recipes), (record._REGISTRY, parts)):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_python_blocks_run(name, tmp_path, monkeypatch, unregistered, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks((ROOT / name).read_text(), "python")
    assert found
    for block in found:
        exec(compile(block, name, "exec"), {"__name__": "documentation"})
    if name == "README.md":
        assert "nll" in capsys.readouterr().out
        assert (tmp_path / "digits-vae" / "model.safetensors").exists()


def test_contributed_parts_train(unregistered):
    """The family, the objective and the recipe of CONTRIBUTING.md work together."""
    import lowerbound as lb
    from lowerbound.recipes.parts import mlp_parts

    scope: dict = {"__name__": "documentation"}
    for block in blocks((ROOT / "CONTRIBUTING.md").read_text(), "python"):
        exec(compile(block, "CONTRIBUTING.md", "exec"), scope)
    data = lb.load_data("digits", binarize="none")
    laplace = scope["FixedLaplace"](data.spec.shape, 0.2)
    parts = mlp_parts(data.spec, lb.families.Normal((3,)), laplace, (16,))
    recipe = lb.Recipe(data.spec, *parts, scope["ImportanceBound"](7))
    run = lb.fit(recipe, data, epochs=3, progress=False)
    bounds = [e["bound"] for e in run.history if e["split"] == "train"]
    assert bounds[-1] > bounds[0]
    assert lb.fit(scope["tight_vae"](data.spec), data, epochs=1, progress=False).history


def own_data(folder: Path) -> None:
    """Write what the block on one's own data speaks of: people.csv, names.txt, and photos/, clean/ and hazy/."""
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(170, 9):.1f},{rng.integers(5)},{'ABC'[i % 3]},{2000 + i % 9}-02-01" for i in range(90)]
    (folder / "people.csv").write_text("height,children,plan,joined\n" + "\n".join(rows) + "\n,2,A,\n")
    names = [f"{rng.choice(list('bdgklmr'))}{rng.choice(list('aeiou'))}{rng.choice(list('nrs'))}" for _ in range(60)]
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    for name in ("photos", "clean", "hazy"):
        (folder / name).mkdir()
        for i in range(30):
            squares = np.random.default_rng(i).integers(0, 256, (7, 5, 3)) // (2 if name == "hazy" else 1)
            pixels = np.kron(squares, np.ones((10, 10, 1)))[: 40 + i]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


COMMANDS = [block.splitlines() for block in blocks(ENGLISH, "sh") if block.startswith("lowerbound ")]


def test_blocks_of_commands_are_found():
    assert len(COMMANDS) >= 5 and sum(map(len, COMMANDS)) >= 38


@pytest.mark.parametrize("lines", COMMANDS, ids=[lines[0] for lines in COMMANDS])
def test_commands_run(tmp_path, lines, server):
    own_data(tmp_path)
    out, err, environment = tmp_path / "out", tmp_path / "err", {"LOWERBOUND_CACHE": str(tmp_path / "cache")}
    for line in lines:
        command, *words = shlex.split(line)
        assert command == "lowerbound"
        code = server.run(words, tmp_path, out, err, seconds=300, environment=environment)
        assert code == 0, f"{line}\n{err.read_text()}"
        assert err.read_text().strip().splitlines()[-1].startswith("next:")


def test_both_languages_have_the_same_blocks_and_headings():
    assert re.findall(r"```.*?```", ENGLISH, re.DOTALL) == re.findall(r"```.*?```", CHINESE, re.DOTALL)
    levels = [re.findall(r"^#+ ", text, re.MULTILINE) for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_tables_have_every_recipe():
    assert sorted(table(ENGLISH)) == sorted(shipped)
    assert table(ENGLISH) == table(CHINESE)
