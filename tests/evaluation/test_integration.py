"""log p(x), the ELBO and the exact posterior on a grid: against closed forms, sampling, and their own error."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import lowerbound as lb
from lowerbound.core.compose import composed
from lowerbound.core.distribution import Support
from lowerbound.core.errors import NoDensity, UsageError
from lowerbound.core.model import Network
from lowerbound.evaluation import integration
from lowerbound.evaluation.integration import Integrals, integrate, log_joint
from lowerbound.families import Bernoulli, Dequantized, FixedNormal


class Affine(Network):
    """weight @ x + bias."""

    def __init__(self, weight: Tensor, bias: Tensor, out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.double()), nn.Parameter(bias.double())
        self.in_shape, self.out_shape = (weight.shape[1],), out_shape

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x @ self.weight.T + self.bias).unflatten(-1, self.out_shape)


class Folded(Affine):
    """Weight @ |x - 0.187| + bias: two places give the same."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward((x - 0.187).abs())


def linear(
    weight: Tensor, bias: Tensor, s2: float, mean: Tensor, variance: Tensor, family=None, network: type[Affine] = Affine
) -> lb.VAE:
    """Return a float64 model with likelihood N(weight z + bias, s2) and the same q = N(mean, variance) for all x."""
    dims, latent = weight.shape
    family = family or FixedNormal((dims,), scale=math.sqrt(s2))
    q = Affine(torch.zeros(2 * latent, dims), torch.cat([mean, variance.log()]), (2, latent))
    prior = lb.priors.StandardNormal((latent,))
    group = lb.groups.Flat(lb.families.Normal((latent,), floor=1e-9), prior)
    decoder = lb.Conditional(network(weight, bias, (dims,)), family)
    return lb.VAE(lb.Encoder([q]), [group], decoder).double()


def dataset(x: Tensor, support: Support = "real") -> lb.Dataset:
    return lb.Dataset(x, None, lb.DataSpec("rows", tuple(x.shape[1:]), "table", support, len(x)), "test")


def closed(weight: Tensor, bias: Tensor, s2: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p(x) `[N]`, posterior means `[N, D]` and covariance `[D, D]` of the linear-Gaussian model."""
    weight, bias, x = weight.double(), bias.double(), x.double()
    dims, latent = weight.shape
    log_px = MultivariateNormal(bias, weight @ weight.T + s2 * torch.eye(dims).double()).log_prob(x)
    covariance = torch.linalg.inv(torch.eye(latent).double() + weight.T @ weight / s2)
    return log_px, (x - bias) @ weight @ covariance / s2, covariance


ONE = (torch.tensor([[1.0], [2.0]]), torch.tensor([0.1, -0.2]))
TWO = (torch.tensor([[1.0, -0.5], [2.0, 1.5], [0.3, 0.7]]), torch.tensor([0.1, -0.2, 0.4]))
Q = {1: (torch.tensor([0.5]), torch.tensor([math.exp(-1)])), 2: (torch.tensor([0.5, -0.2]), torch.tensor([0.3, 0.07]))}


def rows_for(bias: Tensor, count: int = 7) -> Tensor:
    x = 1.5 * torch.randn(count, len(bias), generator=torch.Generator().manual_seed(3))
    x[0, :2] = torch.tensor([0.3, -0.7])
    return x


@pytest.mark.parametrize("s2", [0.5, 0.01, 1e-5])
@pytest.mark.parametrize(("weight", "bias"), [ONE, TWO])
def test_a_linear_model_has_its_closed_forms(weight, bias, s2) -> None:
    """Posteriors from as wide as the prior down to a seventieth of a cell."""
    latent = weight.shape[1]
    x = (rows_for(bias) @ torch.linalg.pinv(weight).T) @ weight.T + bias + 0.3 * math.sqrt(s2)
    model = linear(weight, bias, s2, *Q[latent])
    found = integrate(model, dataset(x), tolerance=1e-3)
    log_px, mean, covariance = closed(weight, bias, s2, x)
    torch.testing.assert_close(found.log_px, log_px, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(found.mean, mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.covariance, covariance.expand(len(x), -1, -1), rtol=1e-5, atol=1e-12)
    q = MultivariateNormal(Q[latent][0].double(), torch.diag(Q[latent][1].double()))
    gap = torch.stack([kl_divergence(q, MultivariateNormal(m, covariance)) for m in mean])
    torch.testing.assert_close(found.gap, gap, rtol=1e-7, atol=1e-6)
    off = (found.elbo - (log_px - gap)).abs()
    assert (off <= found.elbo_error + 1e-9 * gap.max()).all()
    assert float(found.elbo_error.max()) < 3e-5 * float(gap.max())


def test_golden_values() -> None:
    found = integrate(linear(*ONE, 0.5, *Q[1]), dataset(torch.tensor([[0.3, -0.7]], dtype=torch.float64)))
    assert float(found.log_px) == pytest.approx(-2.517313885884949, abs=1e-7)  # x comes as float32
    assert float(found.elbo) == pytest.approx(-5.633066812292332, abs=1e-6)
    assert float(found.mean) == pytest.approx(-0.14545454545454545, abs=1e-7)


@pytest.mark.parametrize(("weight", "bias"), [ONE, TWO])
@pytest.mark.parametrize("s2", [0.05, 0.002])
def test_the_reported_error_is_that_of_the_cells_twice_as_wide(monkeypatch, weight, bias, s2) -> None:
    """It is never below the true error, and never above the errors of both grids together."""
    monkeypatch.setattr(integration, "HALVINGS", 2)
    x = rows_for(bias)
    data, model = dataset(x), linear(weight, bias, s2, *Q[weight.shape[1]])
    fine, coarse = integrate(model, data), None
    monkeypatch.setattr(integration, "HALVINGS", 1)
    coarse = integrate(model, data)
    true, wide = ((found.log_px - closed(weight, bias, s2, x)[0]).abs() for found in (fine, coarse))
    assert (fine.error >= 0.9 * true - 1e-9).all()
    assert (fine.error <= wide + true + 1e-12).all()
    if s2 == 0.002:
        assert float(true.max()) > 1e-7  # so coarse here that there is an error to be honest about


@pytest.fixture(scope="module")
def trained() -> tuple[lb.VAE, lb.Dataset]:
    data = lb.load_data("digits")
    recipe = lb.recipes.vae(data.spec, latent_dim=2, hidden=(32,))
    model = lb.fit(recipe, data, epochs=8, seed=0, progress=False).model
    return model, data.test.take(40).matching(recipe.spec)


def test_importance_sampling_agrees(trained) -> None:
    model, rows = trained
    found, sampled = integrate(model, rows), lb.score(model, rows, num_samples=4000, seed=1)
    away = (sampled.log_px - found.log_px) / sampled.variance.clamp_min(1e-10).sqrt()
    assert float(found.error.max()) < 1e-4
    assert float(away.abs().max()) < 5.5
    assert abs(float(away.mean())) * math.sqrt(len(rows)) < 5.5
    one_sample = lb.score(model, rows, num_samples=2000, seed=1)
    assert float((found.elbo + one_sample.distortion + one_sample.rate).abs().max()) < 1.0
    assert abs(float((found.elbo + one_sample.distortion + one_sample.rate).mean())) < 0.05
    assert (found.gap > 0).all()


def equal(one: Integrals, other: Integrals, atol: float) -> None:
    for name, value in vars(one).items():
        torch.testing.assert_close(value, getattr(other, name), rtol=0, atol=atol, msg=name)


def test_nothing_is_drawn_and_cutting_the_work_changes_nothing(trained, monkeypatch) -> None:
    model, rows = trained[0], trained[1].take(11)
    double = lb.recipes.vae(rows.spec, latent_dim=2, hidden=(32,)).build(0)[0]
    double.load_state_dict(model.state_dict())
    double.double()
    state = torch.get_rng_state()
    found = integrate(double, rows, points=32)
    assert torch.equal(state, torch.get_rng_state())
    equal(found, integrate(double, rows, points=32), 0.0)
    monkeypatch.setattr(integration, "BLOCK_ROWS", 7)
    monkeypatch.setattr(integration, "BLOCK_CELLS", 301)
    equal(found, integrate(double, rows, points=32), 1e-9)
    some = integrate(double, rows.rows(torch.tensor([5, 2])), points=32)
    torch.testing.assert_close(some.log_px, found.log_px[[5, 2]], rtol=0, atol=1e-9)


def test_a_finer_start_finds_the_same(trained) -> None:
    """Trained posteriors have ridges and second modes; the first cells must not lose them."""
    model, rows = trained
    coarse, fine = integrate(model, rows.take(8)), integrate(model, rows.take(8), points=150)
    torch.testing.assert_close(coarse.log_px, fine.log_px, rtol=0, atol=1e-5)


def test_two_narrow_modes_are_both_found() -> None:
    """One at the centre of a first cell, the other at its edge, where the cell's centre is 53 nats lower."""
    model = linear(torch.tensor([[1.0]]), torch.tensor([0.0]), 0.012**2, *Q[1], network=Folded)
    x = torch.tensor([[0.938], [1.5]], dtype=torch.float64)
    peaks = [Normal(0.0, 1.0).log_prob(0.187 + sign * x[:, 0]) for sign in (1, -1)]
    found = integrate(model, dataset(x))
    torch.testing.assert_close(found.log_px, torch.logaddexp(*peaks), rtol=0, atol=1e-3)  # the prior bends by s^2
    assert (found.covariance[:, 0, 0] > 0.1).all()


def test_cells_are_halved_twice_however_large_the_tolerance(monkeypatch) -> None:
    """Two coarse grids may agree by chance."""
    model, data = linear(*ONE, 0.002, *Q[1]), dataset(rows_for(ONE[1]))
    found = integrate(model, data, tolerance=1e9)
    monkeypatch.setattr(integration, "HALVINGS", 2)
    equal(found, integrate(model, data, tolerance=1e-300), 0.0)


def test_q_is_asked_about_what_is_seen(trained) -> None:
    model, rows = trained
    rows = rows.take(10)
    other = replace(rows, seen=rows.x.roll(1, 0))
    found, own = integrate(model, other), integrate(model, rows)
    torch.testing.assert_close(found.log_px, own.log_px, rtol=0, atol=1e-6)
    sampled = lb.score(model, other, num_samples=2000, seed=0)
    away = found.elbo + sampled.distortion + sampled.rate
    assert abs(float(away.mean())) < 0.1 * float((own.elbo - found.elbo).mean())


def test_a_posterior_that_leaves_the_box_has_no_error_estimate() -> None:
    x = torch.tensor([[0.3, -0.7], [12.0, 24.0]], dtype=torch.float64)
    error = integrate(linear(*ONE, 0.5, *Q[1]), dataset(x)).error
    assert float(error[0]) < 1e-4
    assert error[1] == math.inf


def test_the_probabilities_of_all_x_sum_to_one() -> None:
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    weight = torch.tensor([[3.0, -1.0], [0.5, 2.0], [-4.0, 1.0], [1.0, 1.0]])
    model = linear(weight, torch.tensor([0.1, -0.5, 0.3, 0.0]), 1.0, *Q[2], family=Bernoulli((4,)))
    found = integrate(model, dataset(x, "binary"))
    assert float(found.log_px.exp().sum()) == pytest.approx(1.0, abs=1e-9)
    assert (found.gap > 0).all()


def test_missing_cells_are_integrated_out() -> None:
    weight, bias = TWO
    x = rows_for(bias)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 1] = False
    data = replace(dataset(x), mask=mask)
    found = integrate(linear(weight, bias, 0.5, *Q[2]), data)
    kept = [0, 2]
    torch.testing.assert_close(found.log_px, closed(weight[kept], bias[kept], 0.5, x[:, kept])[0], atol=1e-7, rtol=0)


def test_log_joint_is_likelihood_times_prior() -> None:
    weight, bias = TWO
    x, z = rows_for(bias).double(), torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64)
    found = log_joint(linear(weight, bias, 0.5, *Q[2]), lb.Batch(x), z)
    likelihood = Normal(z @ weight.double().T + bias.double(), math.sqrt(0.5)).log_prob(x[:, None]).sum(-1).T
    prior = Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(found, likelihood + prior[:, None], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "options", "error", "says"),
    [
        (lb.recipes.vae, {"latent_dim": 3}, UsageError, "of 3 dimensions"),
        (lb.recipes.ae, {"latent_dim": 2}, NoDensity, "is a point"),
    ],
)
def test_what_cannot_be_integrated_is_refused(recipe, options, error, says) -> None:
    data = lb.load_data("digits")
    model = recipe(data.spec, hidden=(4,), **options).build(0)[0]
    rows = data.test.take(2).matching(recipe(data.spec).spec)
    with pytest.raises(error, match=says):
        integrate(model, rows)
    with pytest.raises(error, match=says):
        log_joint(model, rows.batch(slice(None)), torch.zeros(1, 2))


def test_a_likelihood_that_is_drawn_is_refused() -> None:
    """Two grids differed by nats, at a stated error of a tenth of that."""
    data = lb.from_arrays(np.arange(80, dtype=np.uint8).reshape(4, 4, 5), binarize="none", valid_fraction=0.0)
    recipe = lb.recipes.vae(data.spec, latent_dim=1, hidden=(4,))
    model = composed(recipe, likelihood=Dequantized(data.spec.shape)).build(0)[0]
    with pytest.raises(UsageError, match="Dequantized is a draw"):
        integrate(model, data.train.matching(model.spec))


@pytest.mark.parametrize("setting", [{"points": 7}, {"tolerance": 0.0}, {"tolerance": math.nan}])
def test_impossible_settings_are_refused(setting) -> None:
    with pytest.raises(UsageError):
        integrate(linear(*ONE, 0.5, *Q[1]), dataset(torch.zeros(1, 2)), **setting)


def test_a_condition_reaches_prior_and_decoder() -> None:
    """Each row has a prior of its own, so the grids differ; against sampling from the posterior."""
    data = lb.load_data("digits")
    recipe = lb.recipes.cvae(data.spec, latent_dim=2, hidden=(16,))
    model = lb.fit(recipe, data, epochs=3, seed=0, progress=False).model
    rows = data.test.take(12).matching(recipe.spec)
    found, sampled = integrate(model, rows), lb.score(model, rows, num_samples=3000, seed=1)
    away = (sampled.log_px - found.log_px) / sampled.variance.clamp_min(1e-10).sqrt()
    assert float(found.error.max()) < 1e-4
    assert float(away.abs().max()) < 5.5
    wrong = replace(rows, y=(rows.y + 1) % 10 if rows.y is not None else None)
    assert float((integrate(model, wrong).log_px - found.log_px).abs().max()) > 0.1


def test_densities_come_in_the_units_asked_for(tmp_path) -> None:
    """A column a hundred times as wide has a density a hundredth as high."""
    draws = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([100.0, 0.1])
    lines = ["a,b", *(f"{a:.6f},{b:.6f}" for a, b in draws.tolist())]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    data = lb.load_data(tmp_path / "table.csv")
    recipe = lb.recipes.vae(data.spec, latent_dim=1, hidden=(8,))
    model, rows = recipe.build(0)[0], data.test.matching(recipe.spec)
    found = {units: integrate(model, rows, units=units) for units in ("data", "model")}
    log_scale = data.spec.log_scale
    assert log_scale is not None
    for name in ("log_px", "elbo"):
        apart = getattr(found["model"], name) - getattr(found["data"], name)
        torch.testing.assert_close(apart, log_scale.sum().expand(len(rows)))
    assert abs(float(log_scale.sum()) - math.log(100 * 0.1)) < 0.5
