"""Each story runs on little data, its pages use what it found, and what is committed is what the code writes."""

import json
import re
import shutil
import sys
from functools import cache
from importlib import import_module
from math import isfinite
from pathlib import Path

import pytest

from lowerbound.explore.figures import png_of

ROOT = Path(__file__).parent.parent.parent
STORIES, DOCS = ROOT / "examples" / "stories", ROOT / "docs"
NAMES = sorted(path.stem for path in STORIES.glob("[a-z]_*.py"))
LANGUAGES = {"en": ".md", "zh": ".zh-CN.md"}
WITHOUT_PAGE = {"i_other_claims"}
PAGES = [name for name in NAMES if name not in WITHOUT_PAGE]
CLAIMS = {f"C{i}" for i in range(1, 26)}
FACTS = {"command": "python examples/stories", "seconds": 1.0, "machine": "a machine", "small": True}


@pytest.fixture(autouse=True)
def beside_the_stories(monkeypatch):
    """Let stories be imported by name, as `python examples/stories` does, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(STORIES))
    yield
    for name in ("story", "claims", *NAMES):
        sys.modules.pop(name, None)


@cache
def told(name):
    """Return a story told on little data."""
    story = import_module("story").Story(name, small=True)
    import_module(name).tell(story)
    return story


def templates(name: str) -> dict[str, str]:
    return {lang: (STORIES / "pages" / f"{name}{suffix}").read_text("utf-8") for lang, suffix in LANGUAGES.items()}


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)


def code(text: str) -> list[str]:
    return re.findall(r"```.*?```", text, re.DOTALL)


def test_there_are_stories():
    assert NAMES
    assert {path.name for path in (STORIES / "pages").iterdir()} == {n + s for n in PAGES for s in LANGUAGES.values()}


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_its_numbers_are_finite(name):
    story = told(name)
    assert story.figures and story.numbers
    assert not [key for key, value in story.numbers.items() if not isfinite(value)]
    for text in [t for found in (*story.findings, *story.claims.values()) for t in (found.en, found.zh)]:
        assert text.strip() and not re.search(r"\b(nan|inf)\b", text), text
    for figure in story.figures.values():
        assert png_of(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", PAGES)
def test_its_pages_show_what_it_found(name):
    story = told(name)
    held = json.loads(json.dumps({**FACTS, **story.to_json()}))
    for language, template in templates(name).items():
        text = import_module("story").page(template, held, language)
        assert "{{" not in text
        assert sorted(pictures(text)) == sorted(f"{name}/{figure}.png" for figure in story.figures)
        assert "{{findings}}" in template and template.rstrip().endswith("{{run}}")
        assert all(finding[0][language] in text for finding in zip(held["findings"], strict=True))


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_say_the_same(name):
    english, chinese = templates(name).values()
    headings = [re.findall(r"^#+ ", re.sub(r"```.*?```", "", t, flags=re.DOTALL), re.M) for t in (english, chinese)]
    assert headings[0] == headings[1]
    assert code(english) == code(chinese)
    assert pictures(english) == pictures(chinese)
    assert set(re.findall(r"\{\{.*?\}\}", english)) == set(re.findall(r"\{\{.*?\}\}", chinese))
    assert f"]({name}.zh-CN.md)" in english and f"]({name}.md)" in chinese


@pytest.mark.parametrize("name", PAGES)
def test_its_code_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```python\n(.*?)```", templates(name)["en"], re.DOTALL)
    assert found
    for block in found:
        exec(compile(block, f"{name}.md", "exec"), {"__name__": "page"})


def test_no_claim_has_two_verdicts():
    claims = [claim for name in NAMES for claim in told(name).claims]
    assert set(claims) <= CLAIMS
    assert sorted(claims) == sorted(set(claims))
    assert {row.id for row in import_module("claims").CLAIMS} == CLAIMS


def test_a_claim_without_a_verdict_is_open(tmp_path):
    """A folder with one story gives a table of all claims, of which that story's alone are measured."""
    claim = {"verdict": "corrected", "en": "It is 2 | not 1.", "zh": "是 2 而不是 1。"}
    held = {**FACTS, "numbers": {}, "findings": [], "claims": {"C6": claim}}
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories" / "b_without_kl.json").write_text(json.dumps(held), encoding="utf-8")
    import_module("claims").write_claims(tmp_path / "stories", tmp_path)
    english, chinese = ((tmp_path / f"claims{suffix}").read_text("utf-8") for suffix in LANGUAGES.values())
    assert len(re.findall(r"^\| C\d+ \|", english, re.M)) == len(re.findall(r"^\| C\d+ \|", chinese, re.M)) == 25
    assert english.count("open: not measured") == 24
    assert "It is 2 \\| not 1." in english and "是 2 而不是 1。" in chinese


def test_a_claim_measured_twice_is_refused(tmp_path):
    claim = {"verdict": "open", "en": "a", "zh": "b"}
    held = {**FACTS, "numbers": {}, "findings": [], "claims": {"C6": claim}}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(ValueError, match="C6"):
        import_module("claims").write_claims(tmp_path, tmp_path)


def committed() -> list[str]:
    return sorted(path.stem for path in (DOCS / "stories").glob("*.json"))


def test_every_story_is_committed_from_a_full_run():
    assert committed() == NAMES
    for name in committed():
        assert json.loads((DOCS / "stories" / f"{name}.json").read_text("utf-8"))["small"] is False


def test_committed_pages_are_what_the_code_writes(tmp_path):
    for name in committed():
        shutil.copy(DOCS / "stories" / f"{name}.json", tmp_path)
        written = import_module("story").write_pages(name, tmp_path)
        assert len(written) == (0 if name in WITHOUT_PAGE else len(LANGUAGES))
        for path in written:
            there = DOCS / "stories" / path.name
            assert there.read_bytes() == path.read_bytes(), f"{there} is not what its numbers and template give"
            assert not [p for p in pictures(there.read_text("utf-8")) if not (DOCS / "stories" / p).exists()]


def test_committed_claims_are_what_the_code_writes(tmp_path):
    shutil.copytree(DOCS / "stories", tmp_path / "stories")
    for path in import_module("claims").write_claims(tmp_path / "stories", tmp_path):
        assert (DOCS / path.name).read_bytes() == path.read_bytes(), f"run examples/stories/claims.py: {path.name}"
