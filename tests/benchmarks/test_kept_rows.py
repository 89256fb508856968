"""Rows of benchmarks that are kept in a folder: found again, measured anew where something else is asked."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

_FILE = Path(__file__).parents[2] / "benchmarks" / "page.py"
_SPEC = importlib.util.spec_from_file_location("benchmarks_page", _FILE)
page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(page)


def test_rows_are_found_by_what_was_asked_and_the_others_are_measured(tmp_path):
    rows = [SimpleNamespace(name=name, options={"width": 3}) for name in ("a, b", "c", "d")]
    for file, facts in (("a-b", {"seed": 0}), ("c", {"seed": 1})):  # as earlier runs left them
        (tmp_path / f"{file}.json").write_text(json.dumps({**facts, "options": {"width": 3}, "nll": [1.0, 0.1]}))
        np.save(tmp_path / f"{file}.npy", np.array([1.0, 2.0], np.float32))
    said = []

    def measure(row):
        said.append(row.name)
        return {"seed": 0, "options": row.options, "nll": [5.0, 0.2]}, np.array([5.0])

    def found(*only):
        options = SimpleNamespace(folder=tmp_path, only=only, seed=0)
        return {
            row.name: (facts["nll"][0], len(x)) for row, facts, x in page.kept_rows(rows, options, ["seed"], measure)
        }

    assert found("c") == {"a, b": (1.0, 2), "c": (5.0, 1)}
    assert found() == {"a, b": (1.0, 2), "c": (5.0, 1), "d": (5.0, 1)}
    assert said == ["c", "d"]
    assert json.loads((tmp_path / "d.json").read_text())["seed"] == 0
    rows[0].options["width"] = 4
    assert found()["a, b"] == (5.0, 1)
