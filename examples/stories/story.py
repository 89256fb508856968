"""What a story is: an experiment that prints its numbers, draws its pictures and says which conclusions hold.

Each story module has a function `tell(story)`. It trains and measures, and puts what it finds into the story: numbers,
figures, findings and claims. Its page, in English and in Chinese, is a template in `pages/` whose every number comes
from there, so that no page can say what was not measured.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from lowerbound.explore.figures import write_figure

PAGES = Path(__file__).parent / "pages"
LANGUAGES = {"en": ".md", "zh": ".zh-CN.md"}
WORDS = {
    "en": {True: "holds", False: "does not hold", "small": "small run"},
    "zh": {True: "成立", False: "不成立", "small": "小规模运行"},
}
Verdict = Literal["confirmed", "corrected", "open"]


@dataclass(frozen=True)
class Finding:
    """A conclusion in both languages, and whether the numbers of this run bear it out."""

    en: str
    zh: str
    holds: bool


@dataclass(frozen=True)
class Claim:
    """What a run says of a claim of the seeds: the verdict, and the evidence with its numbers, in both languages."""

    verdict: Verdict
    en: str
    zh: str


@dataclass
class Story:
    """What one story finds.

    Args:
        name: of its module and of its pages.
        small: True to run on little data in seconds: for tests, its numbers mean little.
    """

    name: str
    small: bool = False
    numbers: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    claims: dict[str, Claim] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Print one line."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def number(self, name: str, value: float, what: str, unit: str = "") -> float:
        """Keep a number under a name that the pages use, print it, and return it."""
        assert name not in self.numbers, f"there are two numbers called {name}"
        self.numbers[name] = float(value)
        self.say(f"{what}: {float(value):.5g}{' ' if unit else ''}{unit}")
        return float(value)

    def draw(self, name: str, figure: Figure) -> None:
        """Keep a figure under a name that the pages use."""
        self.figures[name] = figure

    def find(self, en: str, zh: str, *, holds: bool) -> None:
        """Keep a conclusion, and print it with whether it holds."""
        self.findings.append(Finding(en, zh, bool(holds)))
        self.say(f"{WORDS['en'][bool(holds)]}: {en}")

    def claim(self, name: str, verdict: Verdict, en: str, zh: str) -> None:
        """Keep the verdict on a claim such as "C4", with its evidence, and print it."""
        assert name not in self.claims, f"{name} has two verdicts"
        self.claims[name] = Claim(verdict, en, zh)
        self.say(f"{name} {verdict}: {en}")

    def to_json(self) -> dict[str, Any]:
        """Return everything but the figures as JSON."""
        return {
            "numbers": self.numbers,
            "findings": [vars(f) for f in self.findings],
            "claims": {name: vars(claim) for name, claim in self.claims.items()},
        }


def write_story(story: Story, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `folder/NAME.json`, the figures below `folder/NAME/`, and the pages of a story.

    Args:
        story: what was found.
        folder: where to write.
        facts: how it was run: the command, the seconds, the machine.
    """
    for name, figure in story.figures.items():
        write_figure(figure, folder / story.name / f"{name}.png")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, **story.to_json()}, indent=1, ensure_ascii=False)
    (folder / f"{story.name}.json").write_text(text + "\n", encoding="utf-8")
    write_pages(story.name, folder)


def write_pages(name: str, folder: Path) -> list[Path]:
    """Write the pages of a story from its numbers in `folder/NAME.json`; returns their paths, none without template."""
    held = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    written = []
    for language, suffix in LANGUAGES.items():
        template = PAGES / f"{name}{suffix}"
        if template.exists():
            written.append(folder / f"{name}{suffix}")
            written[-1].write_text(page(template.read_text(encoding="utf-8"), held, language), encoding="utf-8")
    return written


def page(template: str, held: Mapping[str, Any], language: str) -> str:
    """Return a page: `{{name:.2f}}` becomes a number, `{{findings}}` the list of conclusions, `{{run}}` how it was run.

    Args:
        template: Markdown.
        held: what `NAME.json` holds.
        language: "en" or "zh".
    """
    words = WORDS[language]
    colon = ": " if language == "en" else "\uff1a"
    findings = "\n".join(f"- **{words[f['holds']]}**{colon}{f[language]}" for f in held["findings"])
    command, seconds, machine = held["command"], held["seconds"], held["machine"]
    run = {
        "en": f"`{command}` took {seconds:.0f} seconds on {machine}.",
        "zh": f"`{command}`，在 {machine} 上用时 {seconds:.0f} 秒。",
    }[language]
    whole = {"findings": findings, "run": run}

    def fill(found: re.Match[str]) -> str:
        name, form = found.group(1), found.group(2)
        return whole[name] if name in whole else format(held["numbers"][name], form or ".3g")

    return re.sub(r"\{\{(\w+)(?::([^}]*))?\}\}", fill, template)
