"""Evaluation against sums written here: blocks, the number of samples, standard errors, and the model's mode."""

import math

import pytest
import torch
from oracle_parts import constant_posterior, f64, linear_model, set_posterior
from torch import Tensor

import lowerbound as lb
from lowerbound.core.distribution import Distribution
from lowerbound.core.walk import Source, from_posterior
from lowerbound.evaluation import importance, mean_variance
from lowerbound.families import Bernoulli, FixedNormal

WEIGHT, BIAS, S2 = f64([[1.0, 0.0], [0.5, -0.4], [0.0, 1.2]]), f64([0.1, -0.2, 0.3]), 0.5
ROWS = 23


def table(x: Tensor) -> lb.Dataset:
    spec = lb.DataSpec("table", tuple(x.shape[1:]), "table", "real", len(x), binarize="none")
    return lb.Dataset(x.float(), None, spec, "test")


def model_with_spec(model: lb.VAE, rows: lb.Dataset) -> lb.VAE:
    return lb.VAE(model.encoder, list(model.groups), model.decoder, rows.spec).float()


def inexact(variances: tuple[float, float] = (0.5, 0.3)) -> tuple[lb.VAE, lb.Dataset]:
    """A linear model whose q is wider than the posterior, and 23 rows of data."""
    rows = table(torch.randn(ROWS, 3))
    model = linear_model(FixedNormal((3,), scale=math.sqrt(S2)), WEIGHT, BIAS)
    gain = torch.linalg.solve(torch.eye(2) + WEIGHT.T @ WEIGHT / S2, WEIGHT.T / S2)
    set_posterior(model, gain, -gain @ BIAS, f64(variances))
    return model_with_spec(model, rows), rows


def from_table(noise: Tensor) -> Source:
    """Take sample k of row n from `noise[k, n]`, whatever blocks they are asked for in: rows first, then samples."""
    at = {"row": 0, "sample": 0}

    def source(i: int, q: Distribution | None, p: Distribution, shape: tuple[int, int]) -> tuple[Tensor, Tensor, bool]:
        samples, rows = shape
        z = q.mean + q.stddev * noise[at["sample"] :][:samples, at["row"] :][:, :rows]
        at["sample"] += samples
        if at["sample"] == len(noise):
            at["sample"], at["row"] = 0, at["row"] + rows
        return z, q.log_prob(z), True

    return source


@pytest.mark.parametrize("blocks", [(100, 100), (7, 13), (1, 1000), (23, 1), (10, 130)])
def test_results_are_the_sums_over_all_samples_whatever_the_blocks(monkeypatch, blocks: tuple[int, int]) -> None:
    """130 samples do not divide into hundreds, nor 23 rows into tens; the sums are written here in one piece."""
    model, rows = inexact()
    noise = torch.randn(130, ROWS, 2)
    with torch.no_grad():
        trace = model(lb.Batch(rows.x), 130, from_table(noise))
    log_w = trace.log_w.double()
    monkeypatch.setattr(importance, "BLOCK_ROWS", blocks[0])
    monkeypatch.setattr(importance, "BLOCK_SAMPLES", blocks[1])
    scores = lb.score(model, rows, num_samples=130, source=from_table(noise))
    torch.testing.assert_close(scores.log_px, torch.logsumexp(log_w, 0) - math.log(130), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(scores.distortion, -trace.log_px.double().mean(0), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(scores.rate, trace.kl.double().mean(0), rtol=1e-6, atol=1e-5)
    w = torch.exp(log_w - log_w.amax(0))
    delta = w.var(0) / w.mean(0).square() / 130
    torch.testing.assert_close(scores.variance, delta, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("num_samples", [1, 7, 99, 100, 101, 130, 250])
def test_constant_weights_give_log_p_for_any_number_of_samples(num_samples: int) -> None:
    """With the exact posterior every weight is p(x), so the sum must be divided by just as many samples."""
    rows = table(torch.randn(ROWS, 3))
    weight, bias = f64([[1.0], [2.0], [-0.5]]), f64([0.1, -0.2, 0.0])
    model = linear_model(FixedNormal((3,), scale=math.sqrt(S2)), weight, bias)
    precision = 1 + float((weight.T @ weight) / S2)
    set_posterior(model, weight.T / S2 / precision, -(weight.T @ bias) / S2 / precision, f64([1 / precision]))
    scores = lb.score(model_with_spec(model, rows), rows, num_samples=num_samples)
    covariance = weight @ weight.T + S2 * torch.eye(3, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(bias, covariance).log_prob(rows.x.double())
    torch.testing.assert_close(scores.log_px, exact, rtol=0, atol=2e-5)
    assert bool(scores.variance.isnan().all()) if num_samples == 1 else float(scores.variance.max()) < 1e-9


def test_the_standard_errors_are_those_of_repeated_runs() -> None:
    """The spread of 60 runs against `mc_se`: their ratio squared times 59 is chi-squared with 59 degrees of freedom.

    The bounds 0.56 and 1.51 have 10^-7 on either side, and the delta method gets 5 %: false-fail rate 2e-7.
    """
    model, rows = inexact()
    runs = [lb.evaluate(model, rows, num_samples=100, seed=seed).nll for seed in range(60)]
    spread = float(torch.tensor([run.value for run in runs]).double().std())
    stated = math.sqrt(sum(run.mc_se**2 for run in runs) / 60)
    assert 0.56 / 1.05 < spread / stated < 1.51 * 1.05
    values = lb.score(model, rows, num_samples=100, seed=0).log_px
    assert runs[0].value == pytest.approx(-float(values.mean()), abs=1e-12)
    assert runs[0].se == pytest.approx(float(values.std()) / math.sqrt(ROWS), rel=1e-9)
    assert runs[0].mc_se < runs[0].se / 3  # they are different things


def test_the_spread_over_rows_is_that_of_new_test_sets() -> None:
    """500 test sets of 23 rows of the model's own data: their mean elbo spreads as `se` says.

    The standard deviation of 500 normal values has a relative error of 3.2 %; 19 % is 6 of them: false-fail rate 2e-9.
    """
    model, _ = inexact((0.05, 0.05))
    rows = table(model.sample(500 * ROWS, show="draw", seed=3))
    scores = lb.score(model, rows, num_samples=5)
    means = -(scores.distortion + scores.rate).reshape(500, ROWS).mean(1)
    stated = lb.evaluate(model, rows, num_samples=5).elbo.se * math.sqrt(500)
    assert float(means.std()) == pytest.approx(stated, rel=0.19)


def test_evaluation_is_the_same_in_either_mode_and_leaves_the_mode() -> None:
    """The model has dropout, which must be off in evaluation and on again afterwards."""
    images = torch.rand(ROWS, 1, 4, 5)
    data = lb.from_arrays(images, valid_fraction=0.0, test_fraction=0.0)
    model, _ = lb.recipes.mnist_vae_2017(data.spec, latent_dim=3, hidden=17, dropout=0.5).build(seed=2)
    found = {}
    for training in (True, False):
        model.train(training)
        found[training] = lb.evaluate(model, data.train, num_samples=7).to_json()
        units = lb.active_units(model, data.train, threshold=1e-6)
        assert units == 3
        assert all(module.training == training for module in model.modules())
    assert found[True] == found[False]
    model.train()
    noisy = [float(-model(lb.Batch(images)).log_px.mean().detach()) for _ in range(2)]
    assert noisy[0] != noisy[1]
    model.encoder.eval()  # one part alone: evaluation gives each module its own mode back
    lb.evaluate(model, data.train, num_samples=2)
    assert model.decoder.training
    assert not model.encoder.training


def test_evaluation_leaves_the_generator_and_depends_on_its_seed_alone() -> None:
    model, rows = inexact()
    first = lb.evaluate(model, rows, num_samples=9, seed=4)
    state = torch.random.get_rng_state()
    torch.rand(11)
    between = torch.random.get_rng_state()
    assert lb.evaluate(model, rows, num_samples=9, seed=4) == first
    assert torch.equal(torch.random.get_rng_state(), between)
    assert not torch.equal(state, between)
    assert lb.evaluate(model, rows, num_samples=9, seed=5).nll.value != first.nll.value


def test_every_row_and_sample_has_noise_of_its_own() -> None:
    """Equal rows get different draws, within a block of 100 and across blocks; so do the second 100 samples."""
    rows = table(torch.zeros(230, 3))
    model = constant_posterior(linear_model(FixedNormal((3,)), WEIGHT, BIAS), [0.0, 0.0], [1.0, 1.0])
    model = model_with_spec(model, rows)
    drawn = []

    def remember(
        i: int, q: Distribution | None, p: Distribution, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor, bool]:
        z, log_q, from_q = from_posterior(i, q, p, shape)
        drawn.append(z.flatten())
        return z, log_q, from_q

    lb.score(model, rows, num_samples=130, source=remember)
    values = torch.cat(drawn)
    assert len(values) == 230 * 130 * 2
    assert len(values.unique()) > 0.99 * len(values)  # float32 has some ties by chance


def test_active_units_are_those_whose_mean_varies_by_more_than_the_threshold() -> None:
    """Posterior means of variance 0.5, 0.011, 0.009 and 0 over the rows, whatever their own variance and shift are."""
    noise = torch.randn(ROWS, 3, dtype=torch.float64)
    rows = table(torch.linalg.qr(noise - noise.mean(0))[0] * math.sqrt(ROWS - 1))  # covariance I, divided by n - 1
    model = linear_model(FixedNormal((3,)), torch.zeros(3, 4, dtype=torch.float64), f64([0.0, 0.0, 0.0]))
    gain = torch.cat([f64([0.5, 0.011, 0.009]).sqrt().diag(), torch.zeros(1, 3, dtype=torch.float64)])
    set_posterior(model, gain, f64([3.0, 0.0, 5.0, 7.0]), f64([0.01, 0.9, 0.3, 0.5]))
    model = model_with_spec(model, rows)
    expected = f64([0.5, 0.011, 0.009, 0.0])
    torch.testing.assert_close(mean_variance(model, rows), expected, rtol=1e-4, atol=1e-9)
    counts = [lb.active_units(model, rows, threshold=t) for t in (0.6, 0.1, 0.01, 0.001)]
    assert counts == [0, 1, 2, 3]
    assert lb.active_units(model, rows) == 2


def test_a_model_that_ignores_z_has_exact_numbers_whatever_the_seed() -> None:
    """Grey test images given as a tensor are binarised once, by the data seed and not by the sampler's."""
    images = torch.rand(40, 1, 2, 3)
    spec = lb.DataSpec("grey", (1, 2, 3), "image", "unit", 40, binarize="dynamic")
    model = linear_model(Bernoulli((1, 2, 3)), torch.zeros(6, 2, dtype=torch.float64), f64([0.4, -1, 2, 0, -0.3, 1]))
    model = lb.VAE(model.encoder, list(model.groups), model.decoder, spec).float()
    constant_posterior(model, [0.0, 0.0], [1.0, 1.0])
    values = [lb.evaluate(model, images, num_samples=3, seed=seed).nll for seed in (0, 1)]
    assert values[0].value == pytest.approx(values[1].value, abs=1e-6)
    assert values[0].mc_se == pytest.approx(0.0, abs=1e-6)
