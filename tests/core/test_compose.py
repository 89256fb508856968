"""A recipe with other parts: the networks follow, the rest stays, and what cannot be is refused."""

import numpy as np
import pytest
import torch

from lowerbound import from_arrays, recipes
from lowerbound.core.compose import composed, resized
from lowerbound.core.errors import Incompatible
from lowerbound.core.objective import first_step
from lowerbound.core.record import describe
from lowerbound.core.spec import Column, DataSpec
from lowerbound.families import Bernoulli, FixedNormal, Normal, SharedNormal
from lowerbound.networks import MLP, ColumnInputs, ConvDecoder, ConvEncoder
from lowerbound.objectives import ELBO, Corrupt, Reconstruction
from lowerbound.priors import StandardNormal

SHAPE = (1, 6, 5)


def grey():
    return from_arrays(np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8))


def trained_step(recipe, data):
    model, objective = recipe.build()
    batch = data.train.matching(recipe.spec).batch(slice(7))
    objective(model, batch, first_step()).losses["model"].backward()
    return model


@pytest.mark.parametrize("name", ["vae", "conv_vae", "cvae", "denoising_vae", "linear_vae"])
def test_a_posterior_of_another_width_gets_an_encoder_of_its_width_and_the_likelihood_its_decoder(name):
    data = from_arrays(
        np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8), np.arange(30) % 3, valid_fraction=0.0
    )
    before = recipes.find(name)(data.spec, latent_dim=4)
    made = composed(before, posterior=Normal((4,), "softplus"), likelihood=Normal(SHAPE, floor=0.1), spec=data.spec)
    model = trained_step(made, data)
    assert model.decoder.family.params == (2, *SHAPE) == tuple(model.decoder.network.out_shape)
    assert model.groups[0].posterior_family.head == "softplus"
    assert type(model.encoder.networks[0]) is type(before.encoder.networks[0])
    assert made.spec.binarize == "none"
    assert all(p.grad is not None for p in model.parameters())


def test_z_of_another_shape_changes_the_decoders_input_and_asks_for_a_prior_of_that_shape():
    data = grey()
    before = recipes.vae(data.spec, latent_dim=4, hidden=(11,))
    with pytest.raises(Incompatible, match=r"z with shape \(4,\)"):
        composed(before, posterior=Normal((3, 2)))
    made = composed(before, posterior=Normal((3, 2)), prior=StandardNormal((3, 2)))
    model = trained_step(made, data)
    assert model.sample(5, seed=0).shape == (5, *SHAPE)
    assert tuple(model.decoder.network.in_shape) == (3, 2)


def test_what_was_not_named_stays():
    data = grey()
    before = recipes.vae(data.spec, latent_dim=4, hidden=(11,), num_samples=3)
    made = composed(before, likelihood=FixedNormal(SHAPE, 0.3), spec=data.spec)
    assert describe(made.objective) == describe(before.objective)
    assert describe(made.encoder) == describe(before.encoder)
    assert describe(made.training) == describe(before.training)
    assert made.name == before.name
    assert describe(composed(before)._model()) == describe(before._model())


def test_an_objective_keeps_the_wrapper_it_had():
    data = grey()
    made = composed(recipes.denoising_vae(data.spec, latent_dim=4), objective=ELBO(num_samples=5))
    assert isinstance(made.objective, Corrupt)
    assert made.objective.objective.num_samples == 5
    plain = composed(recipes.vae(data.spec, latent_dim=4), objective=Reconstruction())
    assert isinstance(plain.objective, Reconstruction)


def test_rules_are_checked():
    data = from_arrays(torch.randn(30, 5))
    with pytest.raises(Incompatible, match="support of data x likelihood"):
        composed(recipes.gaussian_vae(data.spec, latent_dim=2), likelihood=Bernoulli((5,)), spec=data.spec)


def test_a_network_inside_another_is_resized_and_its_own_arguments_stay():
    columns = ColumnInputs(MLP((8,), (2, 3), (7,), "tanh"), (0, 1, 2), masked=True)
    other = resized(columns, out_shape=(5,))
    assert (other.out_shape, other.in_shape, other.reads_mask) == ((5,), (3,), True)
    assert other.network.in_shape == (8,)
    assert isinstance(other.network.body[1], torch.nn.Tanh)
    assert resized(ConvEncoder((3, 9, 7), (4,), (2, 3)), out_shape=(2, 5)).out_shape == (2, 5)
    assert resized(ConvDecoder((4,), (1, 9, 7), (3, 2)), in_shape=(6,))(torch.zeros(2, 6)).shape == (2, 1, 9, 7)


def test_a_table_keeps_its_column_inputs():
    columns = (Column("a", "numeric", "double"), Column("b", "category", "string", categories=("x", "y", "z")))
    spec = DataSpec("people", (2,), "table", "mixed", 20, binarize="none", columns=columns)
    made = composed(recipes.vae(spec, latent_dim=2, hidden=(7,)), posterior=Normal((2,), "softplus"))
    assert isinstance(made.encoder.networks[0], ColumnInputs)
    with pytest.raises(Incompatible, match="support of data x likelihood"):
        composed(recipes.vae(spec, latent_dim=2), likelihood=SharedNormal((2,)), spec=spec)
