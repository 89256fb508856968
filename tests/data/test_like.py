"""New rows for a trained model: in its units and columns, or refused; nothing is scored in other units silently."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lowerbound import evaluate, from_arrays, load_data, load_rows, recipes
from lowerbound.core.errors import DataError, Incompatible, UsageError
from lowerbound.data.checks import fingerprint

ROWS = 40


def pixels(seed=0, most=256, shape=(ROWS, 6, 5)):
    return np.random.default_rng(seed).integers(0, most, shape)


def png(folder, names, value=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((3, 4), 10 * i if value is None else value, np.uint8)).save(folder / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_whole_numbers_are_stored_values_whatever_their_type(tmp_path, dtype):
    x = pixels()
    np.save(tmp_path / "train.npy", x.astype(dtype))
    data = load_data(tmp_path / "train.npy", max_value=255)
    np.save(tmp_path / "new.npy", x.astype(np.int64))
    rows, _ = load_rows(tmp_path / "new.npy", data.spec)
    torch.testing.assert_close(rows.values()[:, 0], torch.from_numpy(x).float() / 255)


def test_floats_in_other_units_are_refused(tmp_path):
    np.save(tmp_path / "train.npy", pixels().astype(np.uint8))
    spec = load_data(tmp_path / "train.npy").spec
    np.save(tmp_path / "new.npy", pixels().astype(np.float32))
    with pytest.raises(DataError, match="0 to 1, as in train"):
        load_rows(tmp_path / "new.npy", spec)
    with pytest.raises(DataError, match="divide by the value that means white"):
        evaluate(recipes.vae(spec, latent_dim=2, hidden=(3,)).build()[0], torch.from_numpy(pixels()).float())


def test_image_files_count_to_255_whatever_the_model_counted_to(tmp_path):
    spec = load_data("digits").spec
    png(tmp_path / "new", ["a.png"], value=255)
    rows, _ = load_rows(tmp_path / "new", spec)
    assert rows.values().unique().tolist() == [1.0]


@pytest.mark.parametrize(("most", "scale"), [(17, 16), (256, 255), (2, None)])
def test_what_is_seen_is_in_the_units_of_x(most, scale):
    x, seen = pixels(most=17).astype(np.uint8), pixels(1, most).astype(np.uint8)
    data = from_arrays(x, seen=seen, scale=16)
    shown = data.split("all").seen_values()
    torch.testing.assert_close(shown[:, 0], torch.from_numpy(seen).float() / (scale or 1))


def test_columns_of_arrays_keep_their_kinds(tmp_path):
    x = pixels(most=2, shape=(ROWS, 3))
    np.save(tmp_path / "train.npy", x)
    data = load_data(tmp_path / "train.npy")
    assert data.spec.support == "binary"
    np.save(tmp_path / "new.npy", x * 7)
    with pytest.raises(DataError, match="not boolean"):
        load_rows(tmp_path / "new.npy", data.spec)


def test_pairs_under_folders_of_splits_are_matched_by_name(tmp_path):
    names = [f"{i:02}.png" for i in range(8)]
    png(tmp_path / "clean" / "train", names)
    png(tmp_path / "clean" / "val", names[:3])
    png(tmp_path / "hazy" / "train", [f"{i:02}.bmp" for i in range(8)])
    png(tmp_path / "hazy" / "val", names[:3])
    data = load_data(tmp_path / "clean", seen=tmp_path / "hazy")
    assert torch.equal(data.split("all").x, data.split("all").seen)
    assert data.spec.paired
    (tmp_path / "hazy" / "train" / "00.bmp").rename(tmp_path / "hazy" / "train" / "99.bmp")
    with pytest.raises(DataError, match="no partner"):
        load_data(tmp_path / "clean", seen=tmp_path / "hazy")
    (tmp_path / "hazy" / "train" / "99.bmp").rename(tmp_path / "hazy" / "train" / "01.png")
    with pytest.raises(DataError, match="suffix alone"):
        load_data(tmp_path / "clean", seen=tmp_path / "hazy")


def test_each_row_knows_its_file(tmp_path):
    png(tmp_path / "a" / "train", [f"{i}.png" for i in range(8)])
    png(tmp_path / "a" / "test", ["x.png", "y.png"])
    data = load_data(tmp_path / "a", valid_fraction=0.25)
    assert data.test.file_names() == ["test/x.png", "test/y.png"]
    assert sorted([*data.train.file_names(), *data.valid.file_names()]) == [f"train/{i}.png" for i in range(8)]
    for rows in (data.train, data.valid):
        values = [10 * int(name.removeprefix("train/").removesuffix(".png")) for name in rows.file_names()]
        assert rows.x[:, 0, 0, 0].tolist() == values
    rows, _ = load_rows(tmp_path / "a" / "test", data.spec)
    assert rows.rows(torch.tensor([1])).file_names() == ["y.png"]


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_a_split_without_weight_is_refused(split):
    parts = from_arrays(np.arange(ROWS * 2.0).reshape(ROWS, 2))
    places = {"training": parts.train, "validation": parts.valid, "test": parts.test}[split].places
    weight = np.ones(ROWS)
    weight[places.numpy()] = 0
    with pytest.raises(DataError, match=f"all {len(places)} {split} rows have weight 0"):
        from_arrays(np.arange(ROWS * 2.0).reshape(ROWS, 2), weight=weight)


def table(path, codes, more=""):
    lines = [f"{i % 7}.5,{code},{'ab'[i % 2]},{i % 3 + 1}" for i, code in enumerate(codes)]
    path.write_text("size,code,kind,times\n" + "\n".join(lines) + "\n" + more)
    return path


def test_codes_that_look_like_numbers_stay_texts(tmp_path):
    data = load_data(table(tmp_path / "train.csv", ["01", "1", "x1"] * 9))
    assert data.spec.columns[1].categories == ("01", "1", "x1")
    rows, _ = load_rows(table(tmp_path / "new.csv", ["01", "1", "01"]), data.spec)
    assert rows.x[:, 1].tolist() == [0, 1, 0]


def test_labels_and_weights_of_new_rows_are_found_by_name(tmp_path):
    data = load_data(table(tmp_path / "train.csv", ["p", "q"] * 12), label="kind", weight="times")
    rows, _ = load_rows(table(tmp_path / "new.csv", ["p", "q", "p"]), data.spec)
    assert rows.y.tolist() == [0, 1, 0]
    torch.testing.assert_close(rows.weight / rows.weight.sum(), torch.tensor([1.0, 2.0, 3.0]) / 6)
    again = load_data(tmp_path / "train.csv", like=data.spec)
    assert torch.equal(again.train.y, data.train.y)
    assert torch.equal(again.train.weight, data.train.weight)
    with pytest.raises(UsageError, match="has the columns size, code"):
        load_data(tmp_path / "train.csv", like=data.spec, columns=("size",))


def test_labels_are_in_their_own_order(tmp_path):
    codes = [str(i % 12) for i in range(36)]
    lines = "\n".join(f"{i}.5,{code}" for i, code in enumerate(codes))
    (tmp_path / "a.csv").write_text("size,digit\n" + lines + "\n")
    assert load_data(tmp_path / "a.csv", label="digit").spec.classes == tuple(str(i) for i in range(12))


def test_what_only_held_out_rows_have_is_told(tmp_path):
    plan = from_arrays(np.zeros((ROWS, 1)) + np.arange(ROWS)[:, None])
    last = int(plan.test.places[0])
    codes = ["p", "q"] * (ROWS // 2)
    codes[last] = "rare"
    data = load_data(table(tmp_path / "a.csv", codes))
    assert any("categories in rows held out alone: rare" in line for line in data.notes)
    codes[last] = ""
    data = load_data(table(tmp_path / "a.csv", codes))
    assert any("missing cells in rows held out alone" in line for line in data.notes)


def test_bits_of_observed_cells_alone(tmp_path):
    """Fair coins, half of them hidden: 1 bit each for those that are seen, under a likelihood of fair coins."""
    rng = np.random.default_rng(0)
    cells = np.where(rng.random((ROWS * 5, 6)) < 0.5, np.where(rng.random((ROWS * 5, 6)) < 0.5, "true", "false"), "")
    lines = "\n".join(",".join(row) for row in cells)
    (tmp_path / "coins.csv").write_text("a,b,c,d,e,f\n" + lines + "\n")
    data = load_data(tmp_path / "coins.csv")
    assert data.spec.support == "binary" and data.spec.masked
    model, _ = recipes.vae(data.spec, latent_dim=1, hidden=(2,)).build()
    with torch.no_grad():
        for parameter in model.parameters():  # q = p = N(0, I), so every importance weight is p(x)
            parameter.zero_()
    numbers = evaluate(model, data.test, num_samples=3)
    assert numbers.bits_per_dim.value == pytest.approx(1, abs=1e-6)
    assert numbers.nll.target == "log p(x_observed)"


def test_standardising_what_cannot_be_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=pixels(shape=(ROWS, 3)) * 1.5, x_test=pixels(1, shape=(9, 3)) * 1.5)
    with pytest.raises(UsageError, match="cannot be standardised"):
        load_data(tmp_path / "x.npz", standardize="yes")
    assert math.isfinite(float(load_data(tmp_path / "x.npz").train.x.sum()))


def test_an_encoder_that_reads_no_mask_is_refused_missing_cells(tmp_path):
    x = pixels(shape=(ROWS, 3)) * 1.5
    x[3, 1] = np.nan
    spec = from_arrays(x, missing="keep").spec
    with pytest.raises(Incompatible, match="does not read which cells are missing"):
        recipes.workshop_vae_2025(spec)


@pytest.mark.parametrize("memory", ["hold", "map"])
def test_weights_are_read_again_to_the_last_bit(tmp_path, memory):
    """Else a run's own table would be taken for one that has changed since."""
    (tmp_path / "t.csv").write_text("a,w\n" + "".join(f"{i % 7},{i % 4}\n" for i in range(300)))
    data = load_data(tmp_path / "t.csv", weight="w", memory=memory)
    again = load_data(tmp_path / "t.csv", like=data.spec, weight="w", memory=memory)
    assert fingerprint(again) == fingerprint(data)


def test_codes_of_a_forced_category_and_of_a_label_stay_as_they_are_written(tmp_path):
    lines = [f"{i % 7:03d},{i % 7},{i * 0.5},{i % 3:02d}" for i in range(60)]
    (tmp_path / "a.csv").write_text("zip,plain,size,kind\n" + "\n".join(lines) + "\n")
    for memory in ("hold", "map"):
        wanted = ("zip:category", "plain:category", "size")
        spec = load_data(tmp_path / "a.csv", columns=wanted, label="kind", memory=memory).spec
        assert spec.columns[0].categories == tuple(f"{i:03d}" for i in range(7))
        assert (spec.columns[1].dtype, spec.columns[1].categories) == ("int64", tuple(map(str, range(7))))
        assert spec.classes == ("00", "01", "02")
        rows, _ = load_rows(tmp_path / "a.csv", spec, memory=memory)
        assert rows.x[:][:9, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
        assert rows.y.tolist() == [i % 3 for i in range(60)]


def test_codes_of_a_dictionary_stay_texts(tmp_path):
    codes = pa.array([f"{i % 7:03d}" for i in range(60)]).dictionary_encode()
    pq.write_table(pa.table({"zip": codes, "size": [i * 0.5 for i in range(60)]}), tmp_path / "a.parquet")
    spec = load_data(tmp_path / "a.parquet").spec
    (tmp_path / "new.csv").write_text("zip,size\n002,3.5\n001,4.5\n")
    assert load_rows(tmp_path / "new.csv", spec)[0].x[:, 0].tolist() == [2, 1]


def test_files_of_zeros_and_ones_are_read_as_those_of_training(tmp_path):
    for name, count in (("train", 20), ("new", 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(pixels(i, 2, (6, 5)).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    spec = load_data(tmp_path / "train").spec
    for memory in ("hold", "map"):
        rows, _ = load_rows(tmp_path / "new", spec, memory=memory)
        assert rows.matching(spec).support == "binary"
        assert torch.equal(rows.values()[0, 0], torch.from_numpy(pixels(0, 2, (6, 5))).float())
    png(tmp_path / "grey", ["a.png"], value=200)
    Image.fromarray(np.full((6, 5), 200, np.uint8)).save(tmp_path / "grey" / "a.png")
    with pytest.raises(DataError, match="0 to 1"):
        load_rows(tmp_path / "grey", spec)


def test_a_test_folder_without_classes_leaves_all_rows_without(tmp_path):
    png(tmp_path / "a" / "train" / "cat", [f"{i}.png" for i in range(5)])
    png(tmp_path / "a" / "train" / "dog", [f"{i}.png" for i in range(5)])
    spec = load_data(tmp_path / "a").spec
    assert spec.classes == ("cat", "dog")
    png(tmp_path / "a" / "test", ["x.png", "y.png"])
    rows, _ = load_rows(tmp_path / "a", spec)
    assert (len(rows), rows.y) == (12, None)
    png(tmp_path / "a" / "val", ["x.png", "y.png"])
    with pytest.raises(DataError, match="one folder for each class"):
        load_data(tmp_path / "a")


def test_a_test_split_of_another_shape_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=pixels(), x_test=pixels())
    spec = load_data(tmp_path / "a.npz").spec
    np.savez(tmp_path / "b.npz", x_train=pixels(), x_test=pixels(shape=(4, 3, 3)))
    with pytest.raises(DataError, match="shape"):
        load_rows(tmp_path / "b.npz", spec)
