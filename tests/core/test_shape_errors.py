"""Wrong shapes and missing conditions are named: what was given, what was expected."""

import numpy as np
import pytest
import torch

from lowerbound import from_arrays, recipes
from lowerbound.core.errors import LowerboundError, ShapeError, UsageError
from lowerbound.core.model import Conditional
from lowerbound.core.recipe import Training
from lowerbound.families import Normal
from lowerbound.networks import MLP

LATENT, CLASSES, ROWS = 3, 4, 7


@pytest.fixture(scope="module")
def spec():
    rng = np.random.default_rng(2)
    return from_arrays(rng.integers(0, 2, (40, 5, 6)), np.arange(40) % CLASSES).spec


@pytest.fixture
def plain(spec):
    return recipes.vae(spec, latent_dim=LATENT, hidden=(11,)).build()[0]


@pytest.fixture
def labelled(spec):
    return recipes.cvae(spec, latent_dim=LATENT, hidden=(11,)).build()[0]


def names(caught, given, expected):
    message = str(caught.value)
    assert str(given) in message, message
    assert str(expected) in message, message


def test_a_network_and_a_family_that_do_not_fit_are_named():
    with pytest.raises(ShapeError) as caught:
        Conditional(MLP((3,), (5,)), Normal((4,)))
    names(caught, (5,), (2, 4))
    assert "MLP" in str(caught.value)
    assert "Normal" in str(caught.value)


@pytest.mark.parametrize("shape", [(ROWS, 1, 6, 5), (ROWS, 30), (ROWS, 1, 5, 6, 1)])
@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_examples_of_another_shape(plain, verb, shape):
    with pytest.raises(ShapeError) as caught:
        getattr(plain, verb)(torch.zeros(shape))
    names(caught, shape[1:], (1, 5, 6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_examples_of_another_type_are_read_as_numbers_or_refused_by_us(plain, verb, dtype):
    # numpy makes float64; torch's own words for it, "mat1 and mat2 must have the same dtype", help nobody.
    x = torch.ones(ROWS, 1, 5, 6)
    try:
        found = getattr(plain, verb)(x.to(dtype))
    except LowerboundError as error:
        assert "float32" in str(error)
    else:
        torch.testing.assert_close(found, getattr(plain, verb)(x), check_dtype=False)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("model", ["plain", "labelled"])
def test_codes_of_another_size(model, size, request):
    y = torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES]
    with pytest.raises(ShapeError) as caught:
        request.getfixturevalue(model).decode(torch.zeros(ROWS, size), y)
    names(caught, (size,), (LATENT,))


def test_a_recipe_for_data_of_another_shape(spec, plain):
    recipe = recipes.vae(spec, latent_dim=LATENT, hidden=(11,))
    other = from_arrays(np.random.default_rng(2).integers(0, 2, (40, 6, 5))).spec
    with pytest.raises(ShapeError) as caught:
        recipe.replace(spec=other)
    names(caught, (1, 6, 5), (1, 5, 6))


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.sample(ROWS),
        lambda model: model.decode(torch.zeros(ROWS, LATENT)),
        lambda model: model.encode(torch.zeros(ROWS, 1, 5, 6)),
        lambda model: model.reconstruct(torch.zeros(ROWS, 1, 5, 6)),
    ],
    ids=["sample", "decode", "encode", "reconstruct"],
)
def test_a_conditional_model_asks_for_its_condition(labelled, use):
    with pytest.raises(ShapeError, match="no condition y"):
        use(labelled)


def test_labels_of_another_number_of_classes(labelled):
    with pytest.raises(ShapeError) as caught:
        labelled.encode(torch.zeros(ROWS, 1, 5, 6), torch.eye(9)[:ROWS])
    names(caught, 9, CLASSES)
    with pytest.raises(ShapeError) as caught:
        labelled.sample(ROWS, torch.eye(9)[:ROWS])
    names(caught, 9, CLASSES)


@pytest.mark.parametrize("rows", [1, 2, 11])
def test_as_many_conditions_as_samples(labelled, rows):
    # One row of y may stand for all samples; any other number is a mistake, and so is another number of samples.
    y = torch.eye(CLASSES)[torch.arange(rows) % CLASSES]
    try:
        drawn = labelled.sample(ROWS, y)
    except ShapeError as error:
        assert str(rows) in str(error)
        assert str(ROWS) in str(error)
    else:
        assert rows == 1
        assert drawn.shape == (ROWS, 1, 5, 6)


@pytest.mark.parametrize("num", [0, -3])
def test_a_number_of_samples_below_one(plain, num):
    with pytest.raises(UsageError, match=str(num)):
        plain.sample(num)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": -1}, {"batch_size": 0}, {"batch_size": -1}, {"lr": 0.0}, {"lr": -1e-3}, {"lr": float("nan")},
        {"lr": float("inf")}, {"clip": 0.0}, {"clip": float("nan")}, {"patience": 0}, {"weight_decay": -0.1},
    ],
)  # fmt: skip
def test_training_options_out_of_range(options):
    with pytest.raises(UsageError) as caught:
        Training(**options)
    assert str(next(iter(options.values()))) in str(caught.value)


@pytest.mark.parametrize("recipe", ["vae", "conv_vae", "gaussian_vae"])
@pytest.mark.parametrize("latent_dim", [0, -1])
def test_a_latent_of_no_dimensions(spec, recipe, latent_dim):
    with pytest.raises(UsageError, match=str(latent_dim)):
        getattr(recipes, recipe)(spec, latent_dim=latent_dim)


def test_an_error_says_what_where_what_was_expected_and_what_to_do():
    error = ShapeError("it broke", where="here", expected="that", fix="do so")
    assert str(error).splitlines() == ["it broke", "  where    here", "  expected that", "  fix      do so"]
    assert str(LowerboundError("it broke")) == "it broke"
    assert isinstance(error, LowerboundError)
