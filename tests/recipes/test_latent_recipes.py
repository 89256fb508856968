"""Which data get levels as their likelihood, and what augmentation leaves of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import Incompatible
from lowerbound.data.augment import Augment
from lowerbound.families import Bernoulli, DiscretizedLogistic, LogisticMixture, SharedNormal
from lowerbound.recipes.parts import default_likelihood


def images(channels: int, dtype: type = np.uint8) -> lb.Data:
    x = np.random.default_rng(2).integers(0, 256, (40, channels, 5, 7)).astype(dtype)
    return lb.from_arrays(x if dtype is np.uint8 else x / 255)


def test_eight_bit_colours_get_the_probabilities_of_256_levels_and_so_bits_per_dim() -> None:
    data = images(3)
    recipe = lb.recipes.vae(data.spec, latent_dim=2, hidden=(7,))
    likelihood = recipe.decoder.family
    assert isinstance(likelihood, DiscretizedLogistic)
    assert (likelihood.levels, likelihood.scale, recipe.spec.binarize) == (256, "shared", "none")
    model, _ = recipe.build()
    found = lb.evaluate(model, data.test).bits_per_dim
    assert found.value is not None
    assert 4 < found.value < 20  # uniform noise has 8, and the weights are untrained


@pytest.mark.parametrize(
    ("data", "family"), [(images(1), Bernoulli), (images(3, np.float32), SharedNormal), (images(2), SharedNormal)]
)
def test_grey_images_and_values_between_levels_keep_their_likelihood(data: lb.Data, family: type) -> None:
    assert type(default_likelihood(data.spec)) is family


def test_a_mixture_of_colours_trains_and_values_between_levels_are_refused() -> None:
    data = images(3)
    recipe = lb.recipes.discretized_logistic_vae(data.spec, components=2, latent_dim=2, hidden=(7,))
    assert isinstance(recipe.decoder.family, LogisticMixture)
    run = lb.fit(recipe, data, epochs=3, progress=False)
    values = [row["elbo"] for row in run.history if row["split"] == "train"]
    assert values[-1] > values[0]
    assert run.model.sample(4, show="draw", seed=0).shape == (4, 3, 5, 7)
    with pytest.raises(Incompatible, match="cannot score"):
        lb.recipes.discretized_logistic_vae(images(3, np.float64).spec)


def test_digits_have_17_levels() -> None:
    spec = lb.load_data("digits").spec
    likelihood = lb.recipes.discretized_logistic_vae(spec, latent_dim=2, hidden=(7,)).decoder.family
    assert isinstance(likelihood, DiscretizedLogistic)
    assert likelihood.levels == 17


def test_augmented_pixels_are_levels_again() -> None:
    """A shift by a part of a pixel blends neighbours; a discrete likelihood scores levels alone."""
    rows = images(3).train
    torch.manual_seed(1)
    moved = replace(rows, augment=Augment(("shift", "rotate"))).batch(slice(None)).x
    assert not torch.equal(moved, rows.values())
    torch.testing.assert_close(moved * 255, (moved * 255).round(), rtol=0, atol=1e-4)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
