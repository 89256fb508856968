"""Probes of codes: constructed codes whose accuracies are known, and that nothing is learned from test rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.data import from_arrays
from lowerbound.evaluation.probes import accuracy, probe
from lowerbound.evaluation.representation import codes_of, representation


def blobs(rows, apart, *, seed=0):
    """Return codes `[rows, 4]` of three classes, normal around corners that are `apart` from the origin."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (rows,), generator=generator)
    return apart * torch.eye(4)[labels] + torch.randn(rows, 4, generator=generator), labels


def test_classes_far_apart_are_all_found():
    found = probe(*blobs(300, 30.0), *blobs(120, 30.0, seed=1))
    assert (found.linear.value, found.neighbours.value) == (1, 1)
    assert found.clusters.nmi <= 1
    assert (found.linear.n, found.train, found.k) == (120, 300, 10)


def test_two_normals_are_told_apart_as_often_as_bayes_rule_does():
    # Means 2 apart in units of the noise: ndtr(1) = 0.8413. Of 4,000 rows 6 standard errors are 0.035: 2e-9 by chance.
    labels = torch.arange(2).repeat(3000)
    codes = torch.randn(6000, 3, generator=torch.Generator().manual_seed(2)) + 2 * labels[:, None] * torch.eye(3)[0]
    found = probe(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    assert found.linear.value == pytest.approx(0.8413, abs=0.035)
    assert found.linear.se == pytest.approx(np.sqrt(0.8413 * 0.1587 / 4000), rel=0.05)
    shuffled = probe(codes[:2000], labels[:2000].roll(1), codes[2000:], labels[2000:])
    assert shuffled.linear.value < 0.8413 - 0.035


def test_noise_is_at_chance():
    # Of 3,000 rows, 6 standard errors of 1/3 are 0.052.
    codes, labels = torch.randn(4000, 5), torch.arange(3).repeat(1334)[:4000]
    found = probe(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    for value in (found.linear.value, found.neighbours.value, found.majority.value):
        assert value == pytest.approx(1 / 3, abs=0.052)
    assert abs(found.clusters.ari) < 0.02
    assert 0 <= found.clusters.nmi < 0.02


def test_a_linear_probe_cannot_tell_rings_apart_but_neighbours_can():
    angle = torch.rand(900, generator=torch.Generator().manual_seed(3)) * 2 * torch.pi
    labels = torch.arange(2).repeat(450)
    codes = torch.stack([angle.cos(), angle.sin()], 1) * (1 + 4 * labels[:, None])
    found = probe(codes[:600], labels[:600], codes[600:], labels[600:])
    assert found.neighbours.value == 1
    assert found.linear.value < 0.7


def test_the_scale_of_a_dimension_does_not_matter_to_the_linear_probe():
    (codes, labels), (held, truth) = blobs(400, 2.0), blobs(200, 2.0, seed=1)
    scale = torch.tensor([1.0, 1e4, 1e-4, 7.0])
    assert probe(codes * scale, labels, held * scale, truth).linear == probe(codes, labels, held, truth).linear


def test_the_largest_class_is_that_of_the_training_rows():
    codes = torch.randn(40, 2)
    labels, truth = torch.arange(40) % 8 == 0, torch.arange(40) < 30
    assert probe(codes, labels.long(), codes, truth.long()).majority.value == 0.25


def test_neighbours_are_counted_by_hand():
    codes, labels = blobs(60, 2.0)
    held, truth = blobs(50, 2.0, seed=1)
    near = torch.cdist(held.double(), codes.double()).topk(7, largest=False).indices
    votes = torch.nn.functional.one_hot(labels[near], 3).sum(1)
    right = (votes.argmax(1) == truth).double().mean()
    assert probe(codes, labels, held, truth, k=7).neighbours.value == pytest.approx(float(right), abs=1e-12)


def test_clusters_do_not_see_labels_and_need_no_names():
    codes, labels = blobs(300, 30.0)
    held, truth = blobs(90, 30.0, seed=1)
    renamed = probe(codes, (labels + 1) % 3, held, (truth + 1) % 3)
    found = probe(codes, labels, held, truth)
    assert found.clusters == renamed.clusters
    other = probe(codes, labels, held, truth[torch.randperm(90)]).clusters
    assert abs(other.ari) < 0.2 < found.clusters.ari


def test_the_spread_is_over_seeds():
    codes, labels = blobs(200, 1.0)
    first, again, other = (probe(codes, labels, codes, labels, seed=seed).clusters for seed in (1, 1, 2))
    assert first == again != other
    assert (first.clusters, first.seeds) == (3, 5)
    assert 0 <= first.ari_spread < 1


def test_accuracy_has_its_binomial_error():
    found = accuracy(np.array([True] * 9 + [False]))
    assert found.value == pytest.approx(0.9)
    assert found.se == pytest.approx(np.sqrt(0.9 * 0.1 / 9))
    assert (found.kind, found.n) == ("estimate", 10)


def test_as_text_and_as_json():
    found = probe(*blobs(300, 30.0), *blobs(120, 30.0, seed=1))
    assert "codes of 120 test rows, after 300 training rows" in str(found)
    assert "1.000 +- 0.000  (accuracy of a linear probe)" in str(found)
    assert found.to_json()["linear"]["n"] == 120
    assert found.to_json()["clusters"]["seeds"] == 5


def test_bad_inputs():
    codes, labels = blobs(20, 1.0)
    with pytest.raises(ShapeError, match="test codes"):
        probe(codes, labels, codes, labels[:5])
    with pytest.raises(ShapeError, match="test codes have 3 dimensions"):
        probe(codes, labels, codes[:, :3], labels)
    with pytest.raises(DataError, match="1 of 20 training codes have a value that is not finite"):
        probe(torch.where(torch.arange(20)[:, None] == 3, torch.inf, codes), labels, codes, labels)
    with pytest.raises(DataError, match="one class"):
        probe(codes, torch.zeros(20), codes, labels)
    with pytest.raises(DataError, match="no test rows"):
        probe(codes, labels, codes[:0], labels[:0])
    with pytest.raises(UsageError, match="20 training rows have no 21 nearest"):
        probe(codes, labels, codes, labels, k=21)


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


def test_codes_are_means_whatever_the_mode(digits):
    model = lb.recipes.vae(digits.spec, latent_dim=3, hidden=(8,)).build(0)[0]
    rows = digits.train.matching(model.spec)
    model.train()
    found = codes_of(model, rows)
    assert model.training
    assert torch.equal(found[-5:].float(), model.encode(rows.batch(slice(len(rows) - 5, None)).x))
    assert found.shape == (len(rows), 3)


def test_a_model_is_asked_what_makes_sense(digits):
    model = lb.recipes.vae(digits.spec, latent_dim=3, hidden=(8,)).build(0)[0]
    found = representation(model, digits)
    assert found.probes.linear.n == len(digits.test)
    assert found.probes.linear.value > found.probes.majority.value  # random features tell digits apart a little
    assert (found.disentanglement, found.classes) == (None, None)
    assert "lb.load_data('sprites')" in str(found)
    assert "knows nothing of a label" in found.to_json()["reasons"]["classes"]


def test_a_conditional_model_is_asked_for_classes_alone(digits):
    model = lb.recipes.cvae(digits.spec, latent_dim=3, hidden=(8,)).build(0)[0]
    found = representation(model, digits, test=digits.test.take(30), num_samples=2)
    assert (found.probes, found.disentanglement) == (None, None)
    assert found.classes.accuracy.n == 30
    assert "reads the label" in str(found)


def test_data_without_labels():
    data = from_arrays(torch.rand(50, 3))
    model = lb.recipes.vae(data.spec, latent_dim=2, hidden=(4,)).build(0)[0]
    found = representation(model, data)
    assert (found.probes, found.disentanglement, found.classes) == (None, None, None)
    assert "no labels to probe for" in found.reasons["probes"]


def test_sprites_have_all_but_classes():
    whole = lb.load_data("sprites")
    few = {name: whole.split(name).rows(torch.randperm(len(whole.split(name)))[:300]) for name in ("train", "valid")}
    data = replace(whole, test=whole.test.rows(torch.randperm(len(whole.test))[:100]), **few)
    found = representation(lb.recipes.linear_vae(data.spec, latent_dim=2).build(0)[0], data)
    assert (found.disentanglement.rows, found.disentanglement.factors) == (700, 5)
    assert found.disentanglement.to_json()["dimensions"] == 2
    assert (found.probes.linear.n, found.probes.train) == (100, 300)
    assert set(found.reasons) == {"classes"}
    narrow = lb.recipes.linear_vae(data.spec, latent_dim=1).build(0)[0]
    assert "one dimension" in representation(narrow, data).reasons["disentanglement"]


def test_one_test_row_has_no_standard_error():
    codes, labels = blobs(40, 30.0)
    assert "1.000  (accuracy of a linear probe)" in str(probe(codes, labels, codes[:1], labels[:1]))
