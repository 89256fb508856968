"""The museum of bugs stays in order: each bug can still be made, and its test is still there."""

import ast
from collections import Counter
from dataclasses import replace

from killing import ROOT, kill, patched
from mutants import MUTANTS

QUICK = next(mutant for mutant in MUTANTS if mutant.name == "kl-without-half")


def test_each_bug_can_be_made_in_one_place_and_compiles():
    for mutant in MUTANTS:
        assert mutant.old != mutant.new
        compile(patched(mutant), mutant.file, "exec")


def test_names_and_changes_are_unique():
    assert not [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1]
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


def test_each_bug_names_an_ordinary_test_that_exists():
    for mutant in MUTANTS:
        path, name = mutant.test.split("::")
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions, mutant
        assert not any("slow" in ast.unparse(mark) for mark in functions[name].decorator_list), mutant


def test_the_page_lists_every_bug_with_its_test():
    page = (ROOT / "docs" / "museum.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row[0].removeprefix("| ") for row in rows] == [mutant.name for mutant in MUTANTS]
    for row, mutant in zip(rows, MUTANTS, strict=True):
        assert row[3] == f"`{mutant.test.replace('::', ': ')}`", mutant.name


def test_a_bug_is_noticed_and_a_harmless_change_is_not():
    verdict = kill(QUICK)
    assert verdict.killed, verdict.output
    harmless = kill(replace(QUICK, new=f"{QUICK.old}  # and nothing else"))
    assert not harmless.killed
    assert " passed" in harmless.output
