"""The data sets made by a formula: their sizes, their shapes in the plane, and that a seed fixes them."""

import pytest
import torch

from lowerbound import load_data

CLASSES = {"ring": (), "moons": ("0", "1"), "8gaussians": tuple("01234567")}


@pytest.mark.parametrize("name", CLASSES)
def test_size_kind_and_labels(name):
    data = load_data(name)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [8100, 900, 1000]
    assert (data.spec.name, data.spec.shape, data.spec.kind, data.spec.support) == (name, (2,), "points", "real")
    assert data.spec.classes == CLASSES[name]
    assert data.spec.binarize == "none"


@pytest.mark.parametrize("name", CLASSES)
def test_a_seed_fixes_the_points(name):
    first, again, other = (load_data(name, seed=seed) for seed in (3, 3, 4))
    for split in ("train", "valid", "test"):
        assert torch.equal(first.split(split).x, again.split(split).x)
    assert not torch.equal(first.train.x.sort(0).values, other.train.x.sort(0).values)


def test_the_ring_has_radius_one_plus_a_tenth_of_a_rayleigh_length():
    # |z/10 + z/|z|| = 1 + |z|/10, |z| Rayleigh: mean 1 + sqrt(pi/2)/10. 6 standard errors: 2e-9 by chance.
    radius = load_data("ring").train.x.double().norm(dim=1)
    expected, deviation = 1 + (torch.pi / 2) ** 0.5 / 10, ((4 - torch.pi) / 2) ** 0.5 / 10
    assert abs(float(radius.mean()) - expected) < 6 * deviation / len(radius) ** 0.5
    assert float(radius.min()) > 1


def test_the_eight_gaussians_stand_where_their_labels_say():
    rows = load_data("8gaussians").train
    for label in range(8):
        points = rows.x[rows.y == label].double()
        angle = torch.tensor(torch.pi * label / 4)
        centre = 2 * torch.stack([angle.cos(), angle.sin()])
        assert bool(((points.mean(0) - centre).abs() < 6 * 0.2 / len(points) ** 0.5).all())
        assert float(points.std()) > 0.15


def test_the_moons_differ_by_label():
    rows = load_data("moons").train
    upper, lower = (rows.x[rows.y == label].mean(0) for label in (0, 1))
    assert float(upper[1] - lower[1]) > 0.5
    assert float(lower[0] - upper[0]) > 0.5


def test_digits_are_images_of_17_grey_levels():
    data = load_data("digits")
    assert sum(len(data.split(name)) for name in ("train", "valid", "test")) == 1797
    assert (data.spec.shape, data.spec.support, data.spec.resolution) == ((1, 8, 8), "unit", 1 / 16)
    assert (data.train.values().unique() * 16).tolist() == list(range(17))
