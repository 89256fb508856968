"""`load_data` and `load_rows` by path: each kind of data becomes what it should, and new rows are read alike."""

import csv
import datetime

import numpy as np
import pytest
import torch
from PIL import Image

from lowerbound import fit, load_data, load_rows, recipes
from lowerbound.core.errors import DataError, LowerboundError, ShapeError, UsageError
from lowerbound.data.checks import fingerprint

ROWS = 43
KINDS = ["numeric", "integer", "category", "boolean", "date"]


def photos(folder, count=10, size=None, *, colour=True, seed=0):
    """Write `count` PNGs in two class folders, of unequal sizes unless one is given; returns the folder."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = size or (12 + i, 30 - i)
        pixels = rng.integers(0, 256, (*shape, 3) if colour else shape, dtype=np.uint8)
        path = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def people(path, rows=ROWS, *, missing=True, seed=0, order=None):
    """Write a CSV with a column of each kind, a class, a weight and a constant."""
    rng = np.random.default_rng(seed)
    start = datetime.date(2020, 1, 1)
    columns = {
        "height": [f"{v:.2f}" for v in rng.normal(170, 9, rows)],
        "children": rng.integers(0, 5, rows).tolist(),
        "city": rng.choice(["Köln", "北京", "Oslo"], rows).tolist(),
        "member": rng.choice(["true", "false"], rows).tolist(),
        "joined": [(start + datetime.timedelta(days=int(d))).isoformat() for d in rng.integers(0, 900, rows)],
        "version": [5] * rows,
        "plan": [str(i % 3) for i in range(rows)],
        "times": rng.integers(1, 4, rows).tolist(),
    }
    if missing:
        columns["height"][3] = columns["city"][5] = ""
    names = order or list(columns)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*(columns[name] for name in names), strict=True))
    return path


def test_colour_photos_of_unequal_size(tmp_path):
    folder = photos(tmp_path / "pets")
    with pytest.raises(DataError, match="--image-size"):
        load_data(folder)
    data = load_data(folder, image_size=(9, 7), valid_fraction=0.25, test_fraction=0.2)
    assert data.spec.shape == (3, 9, 7)
    assert data.spec.classes == ("cat", "dog")
    assert (len(data.train), len(data.valid), len(data.test)) == (6, 2, 2)
    assert data.spec.support == "unit" and data.spec.form == "images"
    assert any("resized" in note or "scaled" in note for note in data.notes)
    grey = load_data(folder, image_size=(8,), color="grey")
    assert grey.spec.shape == (1, 8, 8)
    again = load_data(**data.origin)
    assert torch.equal(again.train.x, data.train.x)
    assert fingerprint(again) == fingerprint(data) != fingerprint(grey)


def test_folders_of_splits_keep_their_test_rows(tmp_path):
    photos(tmp_path / "set" / "train", 8, (6, 5))
    photos(tmp_path / "set" / "test", 4, (6, 5), seed=1)
    data = load_data(tmp_path / "set", valid_fraction=0.25)
    assert (len(data.train), len(data.valid), len(data.test)) == (6, 2, 4)
    rows, _ = load_rows(tmp_path / "set", data.spec)
    assert len(rows) == 12


def test_pairs_are_matched_by_name(tmp_path):
    clean = photos(tmp_path / "clean", 8, (6, 5))
    hazy = photos(tmp_path / "hazy", 8, (6, 5), seed=1)
    data = load_data(clean, seen=hazy, test_fraction=0.25)
    whole, seen = load_data(clean).split("all"), load_data(hazy).split("all")
    assert torch.equal(data.split("all").x, whole.x)
    assert torch.equal(data.split("all").seen, seen.x)
    batch = data.train.batch(slice(0, 3))
    assert float(batch.seen.max()) <= 1 and not torch.equal(batch.seen, batch.x)
    assert torch.equal(load_data(**data.origin).train.seen, data.train.seen)
    (hazy / "dog" / "0.png").rename(hazy / "dog" / "zero.png")
    with pytest.raises(DataError, match="no partner"):
        load_data(clean, seen=hazy)


def test_the_order_of_pairs_is_that_of_names_and_not_of_listing(tmp_path):
    for folder, suffix in (("a", ".png"), ("b", ".bmp")):
        (tmp_path / folder).mkdir()
        for i in range(5):
            Image.fromarray(np.full((3, 4), 40 * i, np.uint8)).save(tmp_path / folder / f"{i}{suffix}")
    data = load_data(tmp_path / "a", seen=tmp_path / "b")
    assert torch.equal(data.split("all").x, data.split("all").seen)


def test_a_table_is_typed_standardised_and_kept_with_its_units(tmp_path):
    data = load_data(people(tmp_path / "people.csv"), label="plan", weight="times")
    spec = data.spec
    assert [c.kind for c in spec.modelled] == KINDS
    assert [c.name for c in spec.columns if c.constant] == ["version"]
    assert spec.classes == ("0", "1", "2") and spec.label.dtype == "int64"
    assert spec.support == "mixed" and spec.masked
    whole = data.split("all")
    assert int((~whole.mask).sum()) == 2
    x = data.train.x[:, 0][data.train.mask[:, 0]]
    assert float(x.mean()) == pytest.approx(0, abs=1e-6)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert float(data.train.weight.mean()) == pytest.approx(1, abs=1e-6)
    assert whole.y.tolist() == [i % 3 for i in range(ROWS)]
    with pytest.raises(DataError, match="2 missing cells"):
        load_data(tmp_path / "people.csv", missing="error")


def test_chosen_and_forced_columns(tmp_path):
    path = people(tmp_path / "people.csv")
    data = load_data(path, columns=("children:category", "height"), standardize="no")
    assert [(c.name, c.kind, c.scale) for c in data.spec.columns] == [
        ("children", "category", 1),
        ("height", "numeric", 1),
    ]
    assert data.spec.columns[0].categories == ("0", "1", "2", "3", "4")
    assert float(data.train.x[:, 1].mean()) == pytest.approx(170, abs=9)


def test_new_rows_of_a_table_are_read_as_the_old_ones(tmp_path):
    data = load_data(people(tmp_path / "people.csv"), label="plan", weight="times")
    order = ["joined", "extra", "city", "version", "member", "children", "height"]
    people(tmp_path / "new.csv", 7, missing=False, seed=1, order=[n for n in order if n != "extra"])
    text = (tmp_path / "new.csv").read_text("utf-8").splitlines()
    (tmp_path / "new.csv").write_text("\n".join([text[0] + ",extra", *(line + ",1" for line in text[1:])]), "utf-8")
    rows, notes = load_rows(tmp_path / "new.csv", data.spec)
    assert rows.x.shape == (7, 5) and rows.y is None and rows.split == "all"
    assert any("extra" in note for note in notes)
    height = [float(line.split(",")[order.index("height") - 1]) for line in text[1:]]
    column = data.spec.columns[0]
    torch.testing.assert_close(
        rows.x[:, 0], (torch.tensor(height) - column.offset) / column.scale, rtol=1e-4, atol=1e-5
    )
    unseen = "\n".join(text[:2]).replace("北京", "Lima").replace("Oslo", "Lima").replace("Köln", "Lima")
    (tmp_path / "one.csv").write_text(unseen, "utf-8")
    with pytest.raises(DataError, match="Lima"):
        load_rows(tmp_path / "one.csv", data.spec)
    with pytest.raises(DataError, match="height"):
        load_rows(_without(tmp_path / "new.csv", "height"), data.spec)


def _without(path, column):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cut = path.with_name("cut.csv")
    with cut.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != column], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return cut


def test_cells_missing_where_none_were_are_refused(tmp_path):
    data = load_data(people(tmp_path / "whole.csv", missing=False), columns=("height", "children"))
    assert not data.spec.masked
    with pytest.raises(DataError, match="trained without any"):
        load_rows(people(tmp_path / "holes.csv"), data.spec)


def test_arrays_by_path_are_standardised_and_new_ones_alike(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 100, 1e30] + [0, 5, 0]
    np.save(tmp_path / "x.npy", x)
    data = load_data(tmp_path / "x.npy")
    assert float(data.train.x.abs().max()) < 6
    rows, _ = load_rows(tmp_path / "x.npy", data.spec)
    torch.testing.assert_close(rows.x, data.split("all").x)
    bad = x.copy()
    bad[4, 1] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(DataError, match="row 5, column 2"):
        load_data(tmp_path / "bad.npy")
    assert load_data(tmp_path / "bad.npy", missing="keep").spec.masked
    np.save(tmp_path / "narrow.npy", x[:, :2])
    with pytest.raises(LowerboundError, match=r"\[N, 3\]"):
        load_rows(tmp_path / "narrow.npy", data.spec)


@pytest.mark.parametrize(("shape", "layout"), [((20, 6, 5), "hw"), ((20, 6, 5, 3), "hwc"), ((20, 3, 6, 5), "chw")])
def test_axes_of_images_are_found(tmp_path, shape, layout):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(20) % 2)
    data = load_data(tmp_path / "x.npz")
    assert data.spec.layout == layout
    assert data.spec.shape == ((1, 6, 5) if layout == "hw" else (3, 6, 5))
    rows, _ = load_rows(tmp_path / "x.npz", data.spec)
    assert torch.equal(rows.values(), data.split("all").values())
    assert rows.y.tolist() == (np.arange(20) % 2).tolist()


def test_images_of_a_model_may_have_any_size_and_arrays_may_not(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8))
    spec = load_data(tmp_path / "x.npy").spec
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (31, 22, 3), dtype=np.uint8)).save(tmp_path / "one.jpg")
    rows, notes = load_rows(tmp_path / "one.jpg", spec)
    assert rows.x.shape == (1, 1, 6, 5)
    assert notes
    np.save(tmp_path / "other.npy", np.zeros((2, 7, 7), np.uint8))
    other, _ = load_rows(tmp_path / "other.npy", spec)
    with pytest.raises(ShapeError, match=r"\(1, 7, 7\)"):
        other.matching(spec)


def test_what_is_refused_says_why(tmp_path):
    photos(tmp_path / "pets", 4, (6, 5))
    people(tmp_path / "a.csv")
    np.save(tmp_path / "minus.npy", np.where(np.random.default_rng(0).random((20, 4, 3)) > 0.5, 1.0, -1.0))
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).random((20, 4, 3)) * 1e30)
    for path, options, kind, words in (
        ("pets/dog/0.png", {}, DataError, "at least 2"),
        ("minus.npy", {}, DataError, r"\(x \+ 1\) / 2"),
        ("huge.npy", {}, DataError, "overflow"),
        ("a.csv", {"seen": tmp_path / "pets"}, UsageError, "cannot be paired"),
        ("a.csv", {"label": "plann"}, DataError, "plan"),
        ("pets", {"image_size": (0,)}, UsageError, "image size"),
        ("nothing.csv", {}, DataError, "there are no data"),
        ("x\0y", {}, DataError, "there are no data"),
    ):
        with pytest.raises(kind, match=words):
            load_data(tmp_path / path if "\0" not in path else path, **options)


def test_warnings_of_data(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "same.npy", np.ones((20, 4)))
    same = load_data(tmp_path / "same.npy")
    assert any("identical" in line for line in same.warnings)
    run = fit(recipes.vae(same.spec, latent_dim=1, hidden=(3,)), same, epochs=1, progress=False)
    assert np.isfinite(run.history[-1]["elbo"])
    np.save(tmp_path / "twice.npy", np.repeat(rng.random((10, 5, 4)), 4, 0))
    assert any("are also training rows" in line for line in load_data(tmp_path / "twice.npy").warnings)
    np.save(tmp_path / "centred.npy", rng.random((20, 5, 4)) * 2 - 1)
    assert any("(x + 1) / 2" in line for line in load_data(tmp_path / "centred.npy").warnings)
    np.save(tmp_path / "bytes.npy", rng.random((20, 5, 4)) * 255)
    assert any("255 means white" in line for line in load_data(tmp_path / "bytes.npy").warnings)
