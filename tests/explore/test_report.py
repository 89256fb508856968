"""The report: one page that parses, fetches and runs nothing, escapes what files say, and draws what they hold."""

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lowerbound as lb
from lowerbound.core.objective import Objective
from lowerbound.core.record import _REGISTRY
from lowerbound.explore.curves import curves, ticks
from lowerbound.explore.report import Shown, nothing_shown, page, reconstructions, samples
from lowerbound.explore.run_files import MONITORS, USUAL_MONITOR, read_run, size_on_disk

EVIL = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "link", "line", "path", "circle"}


class Page(HTMLParser):
    """Tags in order, and what is open, so that a tag that is never closed is found."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def is_harmless(html):
    """Return the parsed page after checking that it fetches and runs nothing."""
    parsed = Page(html)
    assert parsed.open == []
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & {tag for tag, _ in parsed.tags}
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "srcset"]
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,"), tag
        link = attributes.get("href")
        assert link is None or link.startswith(("https://arxiv.org/abs/", "./"))
    assert "@import" not in html
    assert "url(" not in html
    return parsed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on images with labels."""
    path = tmp_path_factory.mktemp("report") / "digit run"
    data = lb.load_data("digits")
    lb.fit(lb.recipes.cvae(data.spec, hidden=(9,)), data, epochs=3, out=path, progress=False)
    return path


def shown(folder, rows):
    model = lb.load(folder)
    assert model.spec is not None
    return Shown(samples(model, model.spec), reconstructions(model, rows.matching(model.spec)))


def test_the_page_of_images(folder):
    data = lb.load_data("digits")
    numbers = lb.evaluate(lb.load(folder), data.test.take(13), num_samples=3).to_json()
    (folder / "eval").mkdir()
    (folder / "eval" / "test.json").write_text(json.dumps(numbers))
    about = str(lb.recipes.cvae.__doc__)
    html = page(read_run(folder), shown(folder, data.test), about=about, beside=folder)
    parsed = is_harmless(html)
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("title")) == len(parsed.all("h1")) == len(parsed.all("main")) == 1
    assert [bool(image["alt"]) for image in parsed.all("img")] == [True, True]
    assert [svg["role"] for svg in parsed.all("svg")] == ["img"] * 3
    assert "digit run" in html
    assert f"{numbers['nll']['value']:.4f}" in html
    assert numbers["nll"]["target"] in html
    assert "1,457" in html or "1457" in html
    links = [a["href"] for a in parsed.all("a")]
    assert "./eval/test.json" in links
    assert all((folder / link).is_file() for link in links if link.startswith("./"))


def test_links_lead_from_elsewhere_to_the_run(folder):
    parsed = is_harmless(page(read_run(folder), nothing_shown("x"), beside=folder.parent / "other"))
    assert "./../digit%20run/data.json" in [a["href"] for a in parsed.all("a")]


def test_rows_of_a_table_have_its_columns_and_nothing_of_it_is_markup(tmp_path):
    draws = np.random.default_rng(0)
    lines = [f'"{EVIL}",count,kind']
    lines += [f"{draws.normal():.3f},{'' if i % 5 == 0 else i % 4},{EVIL if i % 3 else 'plain'}" for i in range(61)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = lb.load_data(tmp_path / "t.csv")
    run = tmp_path / EVIL.replace("/", "")
    lb.fit(lb.recipes.vae(data.spec, hidden=(8,), latent_dim=2), data, epochs=1, out=run, progress=False)
    (run / "command.txt").write_text(f"lowerbound {EVIL}\n</pre><script>alert(1)</script>\x00")
    (run / "eval").mkdir()
    number = {"value": None, "reason": EVIL, "kind": EVIL}
    (run / "eval" / f"{EVIL}.json").write_text(json.dumps({"nll": number, EVIL: {"value": 1, "n": EVIL}, "x": EVIL}))
    described = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**described, "notes": [EVIL], "warnings": [EVIL, "\ud800"]}))
    html = page(read_run(run), shown(run, data.test), about=EVIL, beside=run)
    parsed = is_harmless(html)
    assert parsed.all("img") == []
    assert html.encode("utf-8").count(b"&lt;img src=x onerror=alert(1)&gt;") > 12
    cells = [line for line in html.splitlines() if "reconstructed count" in line]
    assert len(cells) == 1
    assert html.count("<tr><td>") >= 10 + min(10, len(data.test))


def test_points_are_a_table(tmp_path):
    data = lb.load_data("ring")
    made = lb.recipes.vae(data.spec, hidden=(5,), latent_dim=1).build(0)[0]
    html = samples(made, data.spec, seed=3)
    assert html.count("<tr><td>") == 10
    assert html == samples(made, data.spec, seed=3) != samples(made, data.spec, seed=4)


def test_missing_pieces_are_said_in_words(tmp_path):
    run = tmp_path / "bare"
    run.mkdir()
    html = page(read_run(run), nothing_shown("it has no model yet."), beside=run)
    is_harmless(html)
    for text in ("lowerbound evaluate bare", "no model yet", "no whole epoch yet", "recipe.json says nothing"):
        assert text in html


def test_curves_stand_where_their_numbers_do():
    svg = curves("a & b", {"train": [(1.0, 4.0), (2.0, 3.0), (3.0, 2.0)], "valid": [(3.0, 4.0)]}, x="epoch", y="<y>")
    drawn = ET.fromstring(svg)
    paths = [e.attrib["d"] for e in drawn.iter() if e.tag == "path"]
    points = np.array([[float(v) for v in p.split()] for p in paths[0][1:].split("L")])
    assert np.allclose(np.diff(points, axis=0), np.diff(points, axis=0)[0], atol=0.11)  # a straight line, falling
    assert points[0][1] < points[-1][1]
    [dot] = [e.attrib for e in drawn.iter() if e.tag == "circle"]
    assert float(dot["cx"]) == pytest.approx(points[-1][0])
    assert float(dot["cy"]) == pytest.approx(points[0][1])
    assert {"epoch", "<y>", "train", "valid"} <= {e.text for e in drawn.iter() if e.tag == "text"}


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [-1e-9, 1e-9], [1e12, 1e12 + 1], [-5.0, 1e9], [27.2, 27.31]])
def test_ticks_enclose_the_values(values):
    found = ticks(values)
    assert 2 <= len(found) <= 9
    assert found[0] <= min(values)
    assert found[-1] >= max(values)
    assert len(set(np.diff(found).round(12))) == 1 or max(values) > 1e6


def test_the_table_of_monitors_is_that_of_the_objectives():
    for name, part in _REGISTRY.items():
        if issubclass(part, Objective) and part.__module__.startswith("lowerbound."):
            assert MONITORS.get(name, USUAL_MONITOR) == (part.monitor, part.maximize), name


def test_a_wrapped_objective_has_the_monitor_of_the_inner_one(tmp_path):
    inner = {"part": "SimpleRegularizer", "args": {}}
    recipe = {"objective": {"part": "Corrupt", "args": {"objective": inner}}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert read_run(tmp_path).monitor == ("penalized", False)


def test_epochs_after_the_point_of_a_resume_count_no_more(tmp_path):
    def epoch(number, elbo):
        return {"event": "epoch", "split": "valid", "epoch": number, "elbo": elbo, "seconds": float(number)}

    events = [{"event": "start", "epochs": 9}, epoch(1, -9.0), epoch(2, -1.0), epoch(3, -2.0), {"event": "resume"}]
    lines = [json.dumps(e) for e in [*events, epoch(2, -5.0)]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"event": "epo')
    run = read_run(tmp_path)
    assert (run.epochs_done, run.best, run.seconds, run.damaged) == (2, (-5.0, 2, "valid"), 2.0, ())


def test_the_size_counts_every_file_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1234567")
    (tmp_path / "y").write_bytes(b"12")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert size_on_disk(tmp_path) == 9
