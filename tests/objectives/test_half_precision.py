"""Under bfloat16 networks, what objectives compute themselves stays in float32."""

import pytest
import torch
from regulariser_parts import B, L, batch, trace

from lowerbound import load_data, recipes
from lowerbound.core.objective import first_step
from lowerbound.objectives import DIP
from lowerbound.objectives.hsic import d_hsic
from lowerbound.objectives.kernels import make_kernel

NAMES = (
    "aae", "beta_tc_vae", "ciwae", "dip_vae", "disentangled_beta_vae", "dreg", "factor_vae", "free_bits_vae",
    "geco_vae", "gmvae", "hamiltonian_vae", "hsic_vae", "info_vae", "joint_vae", "lagging_vae", "m2", "perceptual_vae",
    "piwae", "rae", "renyi_vae", "ssim_vae", "vae_gan", "wae",
)  # fmt: skip


def half():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("name", NAMES)
def test_terms_and_losses_are_in_single_precision_and_near_those_without_half(name):
    recipe = getattr(recipes, name)(load_data("digits").spec, hidden=(32, 16))
    model, objective = recipe.build()
    rows = load_data("digits").train.matching(recipe.spec).batch(slice(0, 40))
    torch.manual_seed(0)
    single = objective(model, rows, first_step())
    torch.manual_seed(0)
    with half():
        found = objective(model, rows, first_step())
    for one, other in ((found.terms, single.terms), (found.losses, single.losses)):
        assert {value.dtype for value in one.values()} == {torch.float32}
        for key, value in one.items():  # eight bits of the networks' numbers
            torch.testing.assert_close(value.mean(), other[key].mean(), rtol=0.03, atol=0.01)
    for player, loss in found.losses.items():
        gradients = torch.autograd.grad(loss, objective.players(model)[player], retain_graph=True)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_sums_over_pairs_of_rows_are_not_rounded():
    """A product of matrices in half precision would keep three digits."""
    torch.manual_seed(1)
    z, share = torch.randn(2, 50, 1), torch.full((50,), 0.02)
    grams = make_kernel("rbf", (1.0,))(z, z)
    loc = torch.randn(B, L, dtype=torch.float64)
    given, made = batch(), trace(loc, 0.1 + loc.abs(), loc[None])
    with half():
        hsic, covariance = d_hsic(grams, share), DIP("i").covariance(made, given)
    torch.testing.assert_close(hsic, d_hsic(grams, share))
    torch.testing.assert_close(covariance, DIP("i").covariance(made, given))
