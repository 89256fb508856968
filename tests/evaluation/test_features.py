"""Features: the classifier and its cache, components against scikit-learn, columns of tables; Inception's structure."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA

import lowerbound as lb
from lowerbound.core.errors import CorruptArtifact, DataError, ShapeError
from lowerbound.data.dataset import Data
from lowerbound.evaluation import features
from lowerbound.evaluation.features import (
    Classifier,
    cache_folder,
    classifier_features,
    column_features,
    component_features,
    features_for,
)
from lowerbound.evaluation.inception import Inception, _Mixed, inception_features


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits", binarize="none")


@pytest.fixture
def few(monkeypatch):
    """Two kinds of small images, bright above or below, and a training that is counted and short."""
    monkeypatch.setattr(features, "FEWEST", 60)
    trained, train = [], features._trained
    monkeypatch.setattr(features, "_trained", lambda *a: trained.append(1) or train(*a))
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.integers(0, 60, (200, 9, 5, 3)).astype(np.uint8)
    x[y == 0, :4] += 120
    x[y == 1, 5:] += 120
    return lb.data.from_arrays(x, y, name="half bright"), trained


def test_the_classifier_is_trained_once_and_then_read(few, tmp_path):
    data, trained = few
    said = []
    first = classifier_features(data, cache=tmp_path / "new", say=said.append)
    again = classifier_features(data, cache=tmp_path / "new", say=said.append)
    assert len(trained) == 1
    assert len(said) == 1
    assert "half bright" in said[0]
    assert first.accuracy == again.accuracy > 0.9
    assert (first.name, first.notes) == ("cnn_half_bright", ())
    rows = data.test.values()
    assert torch.equal(first(rows), again(rows))
    assert first(rows).shape == (len(data.test), 64)
    assert first(rows).dtype == torch.float64
    # one file, and nothing temporary left
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"classifier-{first.key}.safetensors"]


def test_the_same_seed_trains_the_same_classifier_and_leaves_the_generator_alone(few, tmp_path):
    data, _ = few
    torch.manual_seed(3)
    first = classifier_features(data, cache=tmp_path / "a")(data.test.values())
    after = torch.rand(2)
    second = classifier_features(data, cache=tmp_path / "b")(data.test.values())
    other = classifier_features(data, seed=1, cache=tmp_path / "a")(data.test.values())
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), after)
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_features_are_standardised_on_the_training_rows(few, tmp_path):
    data, _ = few
    found = classifier_features(data, cache=tmp_path)(data.train.values())
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-3)


def test_other_data_make_another_file(few, tmp_path):
    data, trained = few
    one = classifier_features(data, cache=tmp_path)
    x = data.train.x.clone()
    x[0, 0, 0, 0] += 1
    changed = classifier_features(replace(data, train=replace(data.train, x=x)), cache=tmp_path)
    y = data.train.y.clone()
    y[:2] = y[:2].flip(0)
    relabelled = classifier_features(replace(data, train=replace(data.train, y=y)), cache=tmp_path)
    assert len({one.key, changed.key, relabelled.key}) == 3
    assert len(trained) == 3
    assert len(list(tmp_path.iterdir())) == 3


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "flipped":
        tail = bytearray(path.read_bytes())
        tail[-5] ^= 64
        path.write_bytes(bytes(tail))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other":
        save_file({"a": torch.zeros(3)}, path, metadata={"about": "{}"})
    elif how == "unsaid":
        save_file(load_file(path), path)
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other", "unsaid", "folder"])
def test_a_damaged_cache_is_said_and_trained_again(few, tmp_path, how):
    data, trained = few
    first = classifier_features(data, cache=tmp_path)
    path = tmp_path / f"classifier-{first.key}.safetensors"
    damaged(path, how)
    again = classifier_features(data, cache=tmp_path)
    assert len(trained) == 2
    assert "could not be read and was trained again" in again.notes[0]
    assert str(path) in again.notes[0]
    assert "\n" not in again.notes[0]
    assert torch.equal(first(data.test.values()), again(data.test.values()))
    if how == "folder":
        assert "was not kept" in again.notes[1]
    else:
        assert classifier_features(data, cache=tmp_path).notes == ()


def test_a_cache_that_cannot_be_written_is_said(few, tmp_path):
    data, trained = few
    (tmp_path / "file").write_text("")
    found = classifier_features(data, cache=tmp_path / "file" / "cache")
    assert found.accuracy > 0.9
    assert len(found.notes) >= 1
    assert "was not kept" in found.notes[-1]
    assert len(trained) == 1


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("LOWERBOUND_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LOWERBOUND_CACHE")
    assert cache_folder() == tmp_path / "shared" / "lowerbound"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lowerbound"


def test_without_a_home_nothing_is_kept_and_that_is_said(few, monkeypatch):
    data, _ = few
    monkeypatch.setattr(features, "cache_folder", lambda: None)
    assert "set LOWERBOUND_CACHE" in classifier_features(data).notes[0]


def test_the_classifier_of_digits_knows_them(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FEWEST", 300)
    found = features_for(digits, cache=tmp_path)
    assert found.name == "cnn_digits"
    assert found.accuracy > 0.93  # 97 % by all 800 steps
    # binarised digits are other data with another classifier
    spec = lb.load_data("digits").spec.settle("binary")
    formed = Data(*(getattr(lb.load_data("digits"), s).matching(spec) for s in ("train", "valid", "test")))
    assert features._name(formed) == "digits_dynamic"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 40), (1, 28, 28), (2, 33, 9)])
def test_images_of_any_size_have_as_many_features(shape):
    network = Classifier(shape, 7)
    assert network.features(torch.rand(2, *shape)).shape == (2, 64)
    assert network(torch.rand(2, *shape)).shape == (2, 7)


def test_components_are_those_of_scikit_learn(digits):
    found = component_features(digits)
    rows, train = digits.test.values(), digits.train.values().flatten(1).double().numpy()
    theirs = PCA(n_components=found(rows).shape[1], svd_solver="full").fit(train)
    wanted = theirs.transform(rows.flatten(1).double().numpy()) / math.sqrt(theirs.explained_variance_.mean())
    assert found.name == "pca_digits"
    # distances do not depend on the components' signs
    np.testing.assert_allclose(
        torch.cdist(found(rows), found(rows)), np.linalg.norm(wanted[:, None] - wanted, axis=2), atol=1e-3
    )
    assert found(digits.train.values()).var(0).mean() == pytest.approx(1, rel=1e-3)


def test_unlabelled_images_have_components_and_points_their_columns(digits):
    unlabelled = Data(*(replace(getattr(digits, s), y=None) for s in ("train", "valid", "test")))
    assert features_for(unlabelled).name == "pca_digits"
    assert features_for(lb.load_data("ring")).name == "columns_ring"
    with pytest.raises(DataError, match="no labels to train a classifier with"):
        classifier_features(unlabelled)


def test_columns_are_standardised_and_categories_one_hot(tmp_path):
    rng = np.random.default_rng(0)
    table = [f"{rng.normal(50, 9):.4f},{'xyz'[i % 3]},{'true' if i % 5 else 'false'}" for i in range(60)]
    (tmp_path / "t.csv").write_text("a,b,c\n" + "\n".join(table))
    data = lb.load_data(tmp_path / "t.csv")
    found = column_features(data)(data.train.values())
    assert found.shape == (len(data.train), 5)
    assert found[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert found[:, 0].std() == pytest.approx(1, abs=1e-5)
    assert torch.equal(found[:, 1:4].sum(1), torch.ones(len(data.train), dtype=torch.float64))
    assert torch.equal(found[:, 1:4].argmax(1), data.train.values()[:, 1].long())
    assert set(found[:, 4].tolist()) == {0, 1}
    points = lb.load_data("8gaussians")
    made = column_features(points)(points.train.values())
    np.testing.assert_allclose(made.std(0), 1, atol=1e-5)


# Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    torch.manual_seed(0)
    network = Inception()
    tensors = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file({**tensors, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path, network.eval()


def test_inception_has_the_names_and_sizes_of_its_port():
    with torch.device("meta"):
        network = Inception()
    # Inception v3 without its two last layers: 27,161,264 less 3,326,696 (auxiliary) and 2,049,000 (1,000 classes)
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - 3_326_696 - 2_049_000
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert len([name for name in shapes if name.endswith(".conv.weight")]) == 94
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5c.branch_pool.bn.bias": (64,),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    }.items():
        assert shapes[name] == shape, name


def test_inception_pools_as_the_fid_does():
    network = Inception()
    pools = {name: block.pool for name, block in network.named_children() if isinstance(block, _Mixed)}
    assert [n for n, pool in pools.items() if pool == "max"] == ["Mixed_6a", "Mixed_7a", "Mixed_7c"]
    block = network.Mixed_6b.eval()
    flat = torch.ones(1, 768, 5, 6)
    pooled = block.branch_pool(flat)
    # an average that counts the padding would be lower at the border; all pixels of a flat image stay equal
    assert torch.equal(block(flat)[:, -192:], pooled)


def test_inception_reads_weights_and_images(weights):
    path, network = weights
    found = inception_features(path)
    grey = torch.rand(2, 1, 20, 31)
    grey[1] = (grey[1] * 3 - 1).clamp(0, 1)
    with torch.no_grad():
        wanted = network(grey.repeat(1, 3, 1, 1)).double()
    beyond = torch.where(grey == 1, 7.0, torch.where(grey == 0, -3.0, grey))  # clipped, as by a file
    made = found(beyond)
    torch.testing.assert_close(made, wanted)
    assert made.shape == (2, 2048)
    assert found.name == "inception"
    with pytest.raises(ShapeError, match=r"rows of shape \(3, 2, 4, 4\)"):
        found(torch.rand(3, 2, 4, 4))


def test_wrong_weights_are_refused_by_name(weights, tmp_path):
    path, _ = weights
    tensors = load_file(path)
    wrong = tmp_path / "wrong.safetensors"
    lost = tensors.pop("Mixed_5b.branch1x1.conv.weight")
    save_file({**tensors, "Mixed_9z.conv.weight": torch.zeros(2)}, wrong)
    with pytest.raises(DataError, match=r"Mixed_5b\.branch1x1\.conv\.weight: missing in the file, \(64, 192, 1, 1\)"):
        inception_features(wrong)
    with pytest.raises(DataError, match=r"Mixed_9z\.conv\.weight: \(2,\) in the file, none in the network"):
        inception_features(wrong)
    save_file({**tensors, "Mixed_5b.branch1x1.conv.weight": lost[:3]}, wrong)
    with pytest.raises(DataError, match=r"\(3, 192, 1, 1\) in the file"):
        inception_features(wrong)
    save_file({"a": lost}, wrong)
    with pytest.raises(DataError, match="and 451 more"):
        inception_features(wrong)
    wrong.write_text(json.dumps({}))
    with pytest.raises(CorruptArtifact, match=r"wrong\.safetensors cannot be read"):
        inception_features(wrong)
    with pytest.raises(DataError, match="there are no weights in"):
        inception_features(tmp_path / "none")
