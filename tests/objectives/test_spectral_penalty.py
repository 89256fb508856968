"""The spectral penalty: singular values against a decomposition, its gradient, and a bound that it leaves alone."""

import math

import pytest
import torch
from torch import Tensor

from lowerbound import load_data, recipes
from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.core.objective import first_step
from lowerbound.networks import ResNet
from lowerbound.objectives import ELBO, SpectralPenalty
from lowerbound.objectives.spectral import convolutions, singular_values


def exact(matrices: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrices)[..., 0]


@pytest.mark.parametrize("shape", [(5, 3, 40), (4, 30, 9), (2, 1, 7), (3, 64, 64)])
def test_the_values_are_those_of_a_decomposition(shape: tuple[int, ...]) -> None:
    """Never above, and within 0.2 %: random matrices are the hard case, with values near the largest."""
    torch.manual_seed(1)
    matrices = torch.randn(shape)
    found, expected = singular_values(matrices, 6), exact(matrices)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)
    assert bool((found <= expected * (1 + 1e-5)).all())
    torch.testing.assert_close(singular_values(matrices.double(), 14), exact(matrices.double()), rtol=1e-9, atol=0)
    torch.testing.assert_close(singular_values(1e-4 * matrices, 6), 1e-4 * found)
    assert float(singular_values(torch.zeros(shape), 6).abs().max()) == 0


def test_the_gradient_is_that_of_the_largest_value() -> None:
    torch.manual_seed(2)
    matrices = torch.randn(3, 6, 10, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(singular_values(matrices, 14).sum(), matrices)
    (expected,) = torch.autograd.grad(exact(matrices).sum(), matrices)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_loss_has_the_penalty_and_the_bound_does_not() -> None:
    data = load_data("digits")
    recipe = recipes.nvae(data.spec, channels=6, latent_channels=2, spectral_weight=0.3)
    model, objective = recipe.build()
    assert isinstance(objective, SpectralPenalty)
    batch = data.train.matching(recipe.spec).batch(slice(0, 5))
    outcomes = []
    for one in (objective, objective.objective):
        torch.manual_seed(4)
        outcomes.append(one(model.train(), batch, torch.tensor(1e6)))
    with_penalty, without = outcomes
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    total = sum(float(torch.linalg.matrix_norm(c.weight.detach().flatten(1), 2)) for c in convs)
    added = (with_penalty.losses["model"] - without.losses["model"]).item()
    assert len(convs) > 20
    assert added == pytest.approx(0.3 * total, rel=5e-3)
    assert with_penalty.terms["spectral"].tolist() == pytest.approx([total] * 5, rel=5e-3)
    for name, term in without.terms.items():
        assert torch.equal(with_penalty.terms[name], term)
    assert without.losses["model"].item() == pytest.approx(-without.terms["elbo"].mean().item(), rel=1e-6)


@torch.no_grad()
def test_separable_cells_mix_no_channels_and_start_as_corrections() -> None:
    network = ResNet((4, 6, 6), (3, 6, 6), 4, 2, cell="separable")
    depthwise = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert [(m.groups, m.in_channels, m.kernel_size) for m in depthwise] == [(24, 24, (5, 5))] * 2
    x = torch.randn(5, 4, 6, 6)
    block = network.blocks[0]
    assert float((block(x) - x).std()) < 0.2
    # squeeze and excitation: each channel of the branch times a number between 0 and 1 that is one for the image
    branch = block.body[:-1](x)  # pyright: ignore[reportIndexIssue]
    ratio = (block(x) - x) / branch
    assert 0 < float(ratio.min()) < float(ratio.max()) < 1
    torch.testing.assert_close(ratio, ratio.mean((-2, -1), keepdim=True).expand_as(ratio), rtol=1e-3, atol=1e-3)


def test_a_levels_rate_is_that_of_the_residual_normal() -> None:
    """KL = 1/2 sum (m^2 / s_p^2 + s^2 - log s^2 - 1), m and s what the networks give (arXiv 2007.03898, eq. 2)."""
    data = load_data("digits")
    model, _ = recipes.nvae(data.spec, channels=6, latent_channels=2).build()
    batch = data.train.matching(model.spec).batch(slice(0, 5))
    with torch.no_grad():
        for latent in model(batch, 2).latents[1:]:
            q, p = latent.q, latent.p
            m, s = q.mean - p.mean, q.stddev / p.stddev
            each = 0.5 * ((m / p.stddev).square() + s.square() - s.square().log() - 1)
            torch.testing.assert_close(latent.kl, each.flatten(2).sum(-1), rtol=1e-4, atol=1e-4)


def test_what_a_penalty_cannot_be_is_refused() -> None:
    for wrong in ({"weight": -1.0}, {"weight": math.inf}, {"squarings": 0}):
        with pytest.raises(UsageError, match="cannot be"):
            SpectralPenalty(ELBO(), **wrong)
    data = load_data("digits")
    recipe = recipes.vae(data.spec, latent_dim=2, hidden=(7,)).replace(objective=SpectralPenalty(ELBO()))
    model, objective = recipe.build()
    assert not convolutions(model)
    with pytest.raises(Incompatible, match="without convolutions"):
        objective.players(model)
    assert (
        objective(model, data.train.matching(recipe.spec).batch(slice(0, 2)), first_step()).terms["spectral"].sum() == 0
    )
