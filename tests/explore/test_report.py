"""The report: one page that parses, fetches and runs nothing, escapes what files say, and draws what they hold."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.core.objective import Objective
from lowerbound.core.phases import FitPrior
from lowerbound.core.record import _REGISTRY
from lowerbound.explore.html import page_path, picture
from lowerbound.explore.pictures import Picture, Shown, _by_weight, pictures, samples
from lowerbound.explore.report import epoch_lines, page, report, tug_points
from lowerbound.explore.run_files import MONITORS, USUAL_MONITOR, read_run, size_on_disk
from lowerbound.objectives import Subsets, WeighedELBO
from lowerbound.priors import LearnedNormal

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


def headings(html):
    return [part.split("</h2>")[0] for part in html.split("<h2>")[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on images with labels."""
    path = tmp_path_factory.mktemp("report") / "digit run"
    data = lb.load_data("digits")
    lb.fit(lb.recipes.cvae(data.spec, hidden=(9,)), data, epochs=3, out=path, progress=False, report=False)
    return path


def drawn(folder, data):
    return list(pictures(Shown.of(lb.load(folder), data, snapshots=folder / "snapshots")))


NOTHING = [Picture("Samples", "None: it has no model yet.")]


def test_the_page_of_images(folder):
    data = lb.load_data("digits")
    numbers = lb.evaluate(lb.load(folder), data.test.take(13), num_samples=3).to_json()
    (folder / "eval").mkdir()
    (folder / "eval" / "test.json").write_text(json.dumps(numbers))
    html = page(read_run(folder), drawn(folder, data), beside=folder)
    assert "Learning Structured Output Representation" in html
    parsed = is_harmless(html)
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("title")) == len(parsed.all("h1")) == len(parsed.all("main")) == 1
    assert all(len(image["alt"] or "") > 20 for image in parsed.all("img"))
    assert len(parsed.all("img")) == 2 + 8  # of training; of the model, all but points and the manifold of 2 dimensions
    assert {"Samples", "What each latent dimension costs", "From one example to another"} <= set(headings(html))
    assert "digit run" in html
    assert f"{numbers['nll']['value']:.4f}" in html
    assert numbers["nll"]["target"] in html
    assert "1,457" in html or "1457" in html
    links = [a["href"] for a in parsed.all("a")]
    assert "./eval/test.json" in links
    assert all((folder / link).is_file() for link in links if link.startswith("./"))


def test_links_lead_from_elsewhere_to_the_run(folder):
    parsed = is_harmless(page(read_run(folder), NOTHING, beside=folder.parent / "other"))
    assert "./../digit%20run/data.json" in [a["href"] for a in parsed.all("a")]


def test_rows_of_a_table_have_its_columns_and_nothing_of_it_is_markup(tmp_path):
    draws = np.random.default_rng(0)
    lines = [f'"{EVIL}",count,kind']
    lines += [f"{draws.normal():.3f},{'' if i % 5 == 0 else i % 4},{EVIL if i % 3 else 'plain'}" for i in range(61)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = lb.load_data(tmp_path / "t.csv")
    run = tmp_path / EVIL.replace("/", "")
    lb.fit(lb.recipes.vae(data.spec, hidden=(8,), latent_dim=2), data, epochs=1, out=run, progress=False, report=False)
    (run / "command.txt").write_text(f"lowerbound {EVIL}\n</pre><script>alert(1)</script>\x00")
    (run / "eval").mkdir()
    number = {"value": None, "reason": EVIL, "kind": EVIL}
    (run / "eval" / f"{EVIL}.json").write_text(json.dumps({"nll": number, EVIL: {"value": 1, "n": EVIL}, "x": EVIL}))
    known = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**known, "about": f"{EVIL}\n\n{EVIL}"}))
    described = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**described, "notes": [EVIL], "warnings": [EVIL, "\ud800"]}))
    html = page(read_run(run), drawn(run, data), beside=run)
    parsed = is_harmless(html)
    assert len(parsed.all("img")) == 5  # two of training, rates, aggregate and scatter: no sheets of images
    assert html.encode("utf-8").count(b"&lt;img src=x onerror=alert(1)&gt;") > 12
    cells = [line for line in html.splitlines() if "reconstructed count" in line]
    assert len(cells) == 1
    assert html.count("<tr><td>") >= 10 + min(10, len(data.test))


def test_curves_of_a_run_whose_prior_was_fitted_since_say_that_they_are_of_another(tmp_path):
    data = lb.load_data("ring")
    plain = lb.recipes.vae(data.spec, hidden=(5,), latent_dim=1)
    fitted = plain.replace(after=(FitPrior((LearnedNormal((1,)),), epochs=1),))
    pages = {}
    for name, made in (("plain", plain), ("fitted", fitted)):
        lb.fit(made, data, epochs=1, out=tmp_path / name, progress=False, report=False)
        pages[name] = page(read_run(tmp_path / name), NOTHING, beside=tmp_path)
    said = "under the prior of training"
    assert said not in pages["plain"]
    parts = {part.split("</h2>")[0]: part for part in pages["fitted"].split("<h2>")}
    assert "ends at epoch 1, before the model&#x27;s prior was fitted (LearnedNormal)" in parts["Training"]
    assert parts["Training"].count(said) >= 2  # beside each of the two figures
    assert said in parts["Numbers"]
    status = json.loads((tmp_path / "fitted" / "status.json").read_text())
    (tmp_path / "fitted" / "status.json").write_text(json.dumps({**status, "status": "stopped"}))
    assert said not in page(read_run(tmp_path / "fitted"), NOTHING, beside=tmp_path)  # it has its first prior yet


def test_points_are_a_table(tmp_path):
    data = lb.load_data("ring")
    made = lb.recipes.vae(data.spec, hidden=(5,), latent_dim=1).build(0)[0]
    rows = [samples(Shown.of(made, data, seed=seed)).columns for seed in (3, 3, 4)]
    assert [len(column) for column in rows[0].values()] == [10, 10]
    assert rows[0] == rows[1] != rows[2]
    names = [p.name for p in pictures(Shown.of(made, data)) if p.figure is not None]
    assert "What a data point is, and what the model draws" in names
    assert "Where the codes lie" not in names  # there is one latent dimension


def test_missing_pieces_are_said_in_words(tmp_path):
    run = tmp_path / "bare"
    run.mkdir()
    html = page(read_run(run), NOTHING, beside=run)
    is_harmless(html)
    for text in ("lowerbound evaluate bare", "no model yet", "no whole epoch yet", "recipe.json says nothing"):
        assert text in html


def test_the_whole_page_of_a_run_is_written_at_its_end(tmp_path):
    data = lb.load_data("digits")
    run = lb.fit(
        lb.recipes.vae(data.spec, latent_dim=2, hidden=(9,)), data, epochs=2, out=tmp_path / "r", progress=False
    )
    html = (tmp_path / "r" / "report.html").read_text()
    is_harmless(html)
    assert {"The learned manifold", "Reconstructions in the course of training", "Where the codes lie"} <= set(
        headings(html)
    )
    assert f"{max(e['elbo'] for e in run.history if e['split'] == 'valid'):.4f}" in html
    assert "lowerbound evaluate r" in html
    assert report(tmp_path / "r", out=tmp_path / "again.html").read_text().count("<img ") == html.count("<img ")
    assert "report:" in (tmp_path / "r" / "log.txt").read_text()


def test_without_rows_the_samples_are_still_there(folder, tmp_path):
    shown = Shown(lb.load(folder), None, why="the data are gone.")
    found = {p.name: p for p in pictures(shown)}
    assert found["Samples"].figure is not None
    assert found["Reconstructions"].figure is None
    assert "the data are gone" in found["Reconstructions"].text


def test_a_conditional_model_without_labels_is_shown_as_far_as_it_goes(folder):
    unlabelled = lb.from_arrays(np.zeros((20, 8, 8), np.uint8), scale=16, name="digits")
    found = {p.name: p for p in pictures(Shown.of(lb.load(folder), unlabelled))}
    assert found["Samples"].figure is not None
    assert "no labels" in found["Reconstructions"].text


def test_a_report_that_cannot_be_written_is_said_and_loses_nothing(tmp_path, monkeypatch):
    from lowerbound.explore import report as module

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_report", full)
    data, said = lb.load_data("ring"), []
    ear = type(
        "Ear", (), {"event": lambda *_: None, "tick": lambda *_: None, "say": lambda _, line: said.append(line)}
    )()
    made = lb.recipes.vae(data.spec, latent_dim=1, hidden=(3,))
    run = lb.fit(made, data, epochs=1, out=tmp_path / "r", progress=False, listeners=(ear,))
    assert run.status == "done"
    assert "warning: no report was written: [Errno 28] No space left on device" in said
    assert lb.load(tmp_path / "r").spec is not None


def test_whatever_goes_wrong_with_a_report_the_run_comes_back(tmp_path, monkeypatch):
    from lowerbound.explore import report as module

    monkeypatch.setattr(module, "write_report", lambda *_: {}["missing"])
    data = lb.load_data("ring")
    made = lb.recipes.vae(data.spec, latent_dim=1, hidden=(3,))
    assert lb.fit(made, data, epochs=1, out=tmp_path / "r", progress=False).status == "done"
    assert "no report was written: 'missing'" in (tmp_path / "r" / "log.txt").read_text()


def test_a_device_that_is_not_there_leaves_the_report_alone(tmp_path):
    data = lb.load_data("ring")
    lb.fit(lb.recipes.vae(data.spec, latent_dim=1, hidden=(3,)), data, epochs=0, out=tmp_path / "r", progress=False)
    before = (tmp_path / "r" / "report.html").read_bytes()
    with pytest.raises(UsageError, match="device"):
        report(tmp_path / "r", device="gpu0")
    assert (tmp_path / "r" / "report.html").read_bytes() == before


def test_what_a_command_measured_keeps_its_lines_and_columns(tmp_path):
    run = tmp_path / "r"
    (run / "eval").mkdir(parents=True)
    (run / "eval" / "doctor.json").write_text(json.dumps({"text": "dimension   rate\n        1   <b>\n"}))
    assert "<pre>dimension   rate\n        1   &lt;b&gt;</pre>" in page(read_run(run), NOTHING, beside=run)


def test_a_command_keeps_its_spaces(tmp_path):
    (tmp_path / "command.txt").write_text("lowerbound train vae --data 'my  <data>.csv'\n")
    made = page(read_run(tmp_path), NOTHING, beside=tmp_path)
    assert "<pre>lowerbound train vae --data &#x27;my  &lt;data&gt;.csv&#x27;</pre>" in made


def test_terms_that_are_no_nats_are_not_called_so(tmp_path):
    event = {"event": "epoch", "split": "train", "epoch": 1, "seconds": 1.0, "elbo": -9.0, "accuracy": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    made = page(read_run(tmp_path), NOTHING, beside=tmp_path)
    assert "<td>elbo</td><td class=number>-9.0000</td><td>nats</td>" in made
    assert "<td>accuracy</td><td class=number>0.5000</td><td></td>" in made


@pytest.mark.parametrize(("part", "term", "unit"), [("SSIM", "ssim_loss", ""), ("IWAE", "iw_bound", " nats")])
def test_the_best_value_has_its_unit(part, term, unit, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"objective": {"part": part, "args": {}}}))
    event = {"event": "epoch", "split": "valid", "epoch": 1, "step": 3, "seconds": 1.0, "elbo": -9.0, term: 0.25}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    made = page(read_run(tmp_path), NOTHING, beside=tmp_path)
    assert f"best {term} 0.250{unit} (valid, epoch 1)" in made
    assert (f"{term}, for each example" in made) == (not unit)


@pytest.mark.parametrize(
    ("recipe", "fitted", "said"), [("ae", False, True), ("ae", True, False), ("vae", False, False)]
)
def test_draws_of_a_prior_that_nothing_was_fitted_to_are_told(recipe, fitted, said):
    data = lb.load_data("digits")
    model = getattr(lb.recipes, recipe)(data.spec, latent_dim=2, hidden=(5,)).build(0)[0]
    if fitted:
        model = lb.fit_prior(model, LearnedNormal((2,)), data, epochs=1)
    assert ("This model has no density" in samples(Shown.of(model, data)).text) == said


def test_codes_of_weighted_rows_are_drawn_by_their_weights():
    x = np.concatenate([np.full((200, 2), -3.0), np.full((200, 2), 3.0)]).astype(np.float32)
    weight = np.repeat([9.0, 1.0], 200)
    rows = lb.from_arrays(x, weight=weight).train
    chosen = _by_weight(rows, 0)
    share = float(rows.weight[rows.values()[:, 0] < 0].sum() / rows.weight.sum())
    # 5 standard errors of a share: false-fail rate 6e-7
    assert abs(float((chosen.values()[:, 0] < 0).float().mean()) - share) < 5 * (share * (1 - share) / len(rows)) ** 0.5


def test_numbers_of_earlier_weights_are_called_so(tmp_path):
    import os
    import time

    data = lb.load_data("ring")
    run = tmp_path / "r"
    lb.fit(lb.recipes.vae(data.spec, latent_dim=1, hidden=(3,)), data, epochs=1, out=run, progress=False, report=False)
    (run / "eval").mkdir()
    (run / "eval" / "test.json").write_text(json.dumps({"nll": {"value": 1.5, "kind": "bound"}}))
    assert "earlier weights" not in page(read_run(run), NOTHING, beside=run)
    later = time.time() + 60
    os.utime(run / "model" / "model.safetensors", (later, later))
    assert "test (of earlier weights: evaluate again)" in page(read_run(run), NOTHING, beside=run)


def test_a_conditional_model_with_an_unconditional_prior_is_drawn():
    data = lb.load_data("digits")
    recipe = lb.recipes.cvae(data.spec, latent_dim=3, hidden=(9,))
    group = lb.groups.Flat(recipe.groups[0].posterior_family, lb.priors.StandardNormal((3,)))
    model = recipe.replace(groups=(group,)).build(0)[0]
    found = {p.name: p for p in pictures(Shown.of(model, data))}
    assert found["Codes and the prior"].figure is not None
    assert "Class 0" in found["Along one dimension at a time"].text


def test_changed_data_are_said_on_the_page(tmp_path):
    data = lb.load_data("ring")
    run = tmp_path / "r"
    lb.fit(lb.recipes.vae(data.spec, latent_dim=1, hidden=(3,)), data, epochs=0, out=run, progress=False, report=False)
    described = json.loads((run / "data.json").read_text())
    assert "has changed" not in report(run).read_text()
    (run / "data.json").write_text(json.dumps({**described, "fingerprint": "0" * 32}))
    assert "ring has changed since the model was trained on it" in report(run).read_text()


@pytest.mark.parametrize("name", ["report.txt", "report", "."])
def test_pages_are_html_files(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be written"):
        page_path(tmp_path / name)


def test_a_picture_is_as_large_as_its_file_says():
    import matplotlib.figure

    file = io.BytesIO()
    matplotlib.figure.Figure(figsize=(5, 2), dpi=100).savefig(file)
    shown = Page(picture(file.getvalue(), "a < b")).all("img")[0]
    assert (shown["width"], shown["height"], shown["alt"]) == ("400", "160", "a < b")
    assert base64.b64decode((shown["src"] or "").removeprefix("data:image/png;base64,")) == file.getvalue()


def test_curves_and_the_tug_of_war_have_the_logged_numbers(tmp_path):
    def epoch(number, split, **terms):
        return {"event": "epoch", "split": split, "epoch": number, "seconds": 1.0, **terms}

    events = [epoch(1, "train", elbo=-9.0, rate=2.0, distortion=7.0), epoch(2, "train", elbo=-8.0, rate=3.0)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(e) for e in events) + "\n")
    run = read_run(tmp_path)
    assert epoch_lines(run, "elbo", -1) == {"train": [(1.0, 9.0), (2.0, 8.0)]}
    assert tug_points(run) == [(2.0, 7.0)]


def test_the_table_of_monitors_is_that_of_the_objectives():
    for name, part in _REGISTRY.items():
        if issubclass(part, Objective) and part.__module__.startswith("lowerbound."):
            assert MONITORS.get(name, USUAL_MONITOR) == (part.monitor, part.maximize), name


def test_a_wrapped_objective_has_the_monitor_of_the_inner_one(tmp_path):
    inner = {"part": "SimpleRegularizer", "args": {}}
    recipe = {"objective": {"part": "Corrupt", "args": {"objective": inner}}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert read_run(tmp_path).monitor == ("penalized", False)
    recipe["objective"] = {"part": "Subsets", "args": {"objective": {"part": "WeighedELBO", "args": {}}}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert read_run(tmp_path).monitor == (Subsets(WeighedELBO((1.0,)), (1,)).monitor, True)


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


def test_real_images_are_shown_over_their_own_range_and_large_ones_smaller():
    x = np.random.default_rng(0).uniform(-3, 5, (30, 1, 320, 160)).astype(np.float32)
    data = lb.from_arrays(x, kind="image")
    model = lb.recipes.vae(data.spec, latent_dim=1, hidden=(2,)).build(0)[0]
    shown = Shown.of(model, data)
    low, high = shown.limits
    assert (low, high) == (float(data.test.values().min()), float(data.test.values().max()))
    seen = shown.visible(shown.rows.values())
    assert seen.shape[-2:] == (160, 80)
    wanted = (data.test.values() - low) / (high - low)
    assert float(seen.mean()) == pytest.approx(float(wanted.mean()), rel=1e-5)  # areas keep the mean
    assert "Black is -3" in samples(shown).text
    grey = lb.load_data("digits")
    assert Shown.of(lb.recipes.vae(grey.spec, hidden=(3,)).build(0)[0], grey).limits == (0.0, 1.0)
