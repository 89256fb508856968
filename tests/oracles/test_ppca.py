"""The linear VAE's optimum is probabilistic PCA: the ELBO there is the maximum likelihood, and units collapse.

Tipping & Bishop 1999; Lucas et al. 2019, arXiv 1911.02469. Covariances are divided by n; all rows; model units.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from oracle_parts import cubature, f64, inject, set_linear, set_posterior
from sklearn.decomposition import PCA
from torch import Tensor

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO
from lowerbound.priors import StandardNormal

# data, q, maximum of mean log p(x), its sigma^2, its mean KL
TABLE = [
    ("digits", 2, 0.005707, 0.054117, 2.513657),
    ("digits", 5, 8.907637, 0.036197, 6.481393),
    ("digits", 10, 17.451947, 0.022751, 12.796141),
    ("digits", 20, 27.277300, 0.011274, 25.438269),
    ("iris", 1, -4.680897, 0.360501, 1.045665),
    ("iris", 2, -3.686255, 0.083736, 2.970677),
    ("wine", 2, -16.155260, 0.527016, 1.872467),
    ("wine", 5, -15.212645, 0.322363, 4.124950),
    ("breast_cancer", 2, -31.684860, 0.393823, 3.094519),
    ("breast_cancer", 10, -18.185031, 0.072647, 14.949068),
    ("diabetes", 2, -12.769538, 0.560434, 1.475375),
    ("diabetes", 5, -12.193692, 0.331969, 3.517874),
]
GOLDEN = {(name, q): value for name, q, value, _, _ in TABLE}


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small for a second thread: on a busy machine waiting for it takes most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows_of(name: str) -> np.ndarray:
    """Digits divided by 16, anything else standardised, `[N, D]` float64."""
    bunch: Any = getattr(sklearn.datasets, f"load_{name}")()
    return bunch.data / 16 if name == "digits" else (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)


def as_data(rows: np.ndarray, name: str) -> lb.Data:
    return lb.from_arrays(rows, name=name, kind="table", valid_fraction=0.0, test_fraction=0.0)


class Optimum:
    """Probabilistic PCA by numpy: eigenvectors and eigenvalues of the covariance, largest first."""

    def __init__(self, rows: np.ndarray, q: int, s2: float | None = None) -> None:
        values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
        self.eigenvalues, self.s2 = values[::-1], float(values[::-1][q:].mean()) if s2 is None else s2
        excess = (self.eigenvalues[:q] - self.s2).clip(0)  # a unit whose eigenvalue is below sigma^2 collapses
        self.mean, self.weight = f64(rows.mean(0)), f64(vectors[:, ::-1][:, :q] * np.sqrt(excess))
        self.active = int((excess > 0).sum())
        spectrum = np.where(np.arange(len(values)) < self.active, self.eigenvalues, self.s2)
        self.log_likelihood = -0.5 * (np.log(2 * math.pi * spectrum) + self.eigenvalues / spectrum).sum()
        self.rate = 0.5 * np.log(self.eigenvalues[: self.active] / self.s2).sum()

    def plant(self, model: lb.VAE) -> lb.VAE:
        """Set the weights of a linear model to the optimum, with the rotation that makes a diagonal q exact."""
        family, dtype = model.decoder.family, next(model.parameters()).dtype
        precision = 1 + self.weight.square().sum(0) / self.s2
        gain = (self.weight / (precision * self.s2)).T
        set_posterior(model, gain.to(dtype), (-gain @ self.mean).to(dtype), (1 / precision).to(dtype))
        set_linear(model.decoder.network, self.weight, self.mean)
        if not isinstance(family, FixedNormal):
            torch.nn.init.constant_(family.log_variance, math.log(self.s2 - family.floor**2))
        return model


def mean_log_w(model: lb.VAE, data: lb.Data, num_samples: int = 10) -> float:
    with torch.no_grad():
        return float(model(next(data.train.blocks(len(data.train))), num_samples).log_w.double().mean())


@pytest.mark.parametrize(("name", "q", "value", "s2", "rate"), TABLE)
def test_planted_weights_reach_the_golden_value(name: str, q: int, value: float, s2: float, rate: float) -> None:
    rows = rows_of(name)
    optimum, data = Optimum(rows, q), as_data(rows, name)
    assert optimum.log_likelihood == pytest.approx(value, abs=1e-6)
    assert optimum.s2 == pytest.approx(s2, abs=1e-6)
    assert optimum.rate == pytest.approx(rate, abs=1e-6)
    model = optimum.plant(lb.recipes.linear_vae(data.spec, latent_dim=q).build()[0])
    scores = lb.score(model, data.train, num_samples=5)
    assert mean_log_w(model, data) == pytest.approx(value, abs=1e-4)
    assert float(scores.log_px.mean()) == pytest.approx(value, abs=1e-4)
    assert float(scores.rate.mean()) == pytest.approx(rate, abs=1e-4)
    assert float(scores.variance.max()) < 1e-8  # every draw has the same weight
    assert lb.evaluate(model, data.train, num_samples=2).nll.value == pytest.approx(-value, abs=1e-4)
    assert lb.active_units(model, data.train) == q
    pca = PCA(q).fit((rows - rows.mean(0)) * np.sqrt(1 - 1 / len(rows)))  # its covariance is divided by n - 1
    assert pca.score(rows - rows.mean(0)) == pytest.approx(value, abs=1e-6)


def expected_gradient(model: lb.VAE, rows: Tensor, beta: float, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Gradient of the expected loss: the loss is quadratic in the noise, so a cubature rule is exact."""
    latents = model.decoder.network.in_shape[0]
    with monkeypatch.context() as patch:
        inject(patch, cubature(latents))
        loss = ELBO(2 * latents, beta)(model, lb.Batch(rows), first_step()).losses["model"]
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(("name", "q"), [("iris", 2), ("digits", 2), ("digits", 10)])
def test_planted_weights_are_a_stationary_point(name: str, q: int, monkeypatch) -> None:
    rows = rows_of(name)
    model = lb.recipes.linear_vae(as_data(rows, name).spec, latent_dim=q).build()[0].double()
    optimum = Optimum(rows, q)
    log_w = optimum.plant(model)(lb.Batch(f64(rows)), 3).log_w.detach()
    assert float(log_w.mean()) == pytest.approx(optimum.log_likelihood, abs=1e-8)
    assert float((log_w - log_w[0]).abs().max()) < 1e-7
    assert all(float(g.abs().max()) < 1e-7 for g in expected_gradient(model, f64(rows), 1.0, monkeypatch))
    with torch.no_grad():
        model.decoder.network.out.weight[1] *= 1.05
    assert max(float(g.abs().max()) for g in expected_gradient(model, f64(rows), 1.0, monkeypatch)) > 1e-3


def assert_at_optimum(model: lb.VAE, data: lb.Data, optimum: Optimum, golden: float) -> None:
    assert mean_log_w(model, data) == pytest.approx(golden, abs=0.01)
    assert lb.evaluate(model, data.train, num_samples=50).nll.value == pytest.approx(-golden, abs=0.01)
    family = model.decoder.family
    assert float(family.log_variance.detach().exp()) == pytest.approx(optimum.s2, rel=0.05)
    assert lb.active_units(model, data.train) == optimum.active


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_reaches_the_golden_value_on_iris(seed: int) -> None:
    """Without validation rows: what `fit` returns must not be the epoch whose noise happened to be lucky."""
    rows = rows_of("iris")
    data = as_data(rows, "iris")
    recipe = lb.recipes.linear_vae(data.spec)
    run = lb.fit(recipe, data, epochs=300, batch_size=150, lr=0.1, lr_schedule="cosine", seed=seed, progress=False)
    assert_at_optimum(run.model, data, Optimum(rows, 2), GOLDEN["iris", 2])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("q", "epochs", "num_samples", "lr"), [(2, 170, 1, 0.2), pytest.param(10, 700, 3, 0.15, marks=pytest.mark.slow)]
)
def test_training_reaches_the_golden_value_on_digits(
    q: int, epochs: int, num_samples: int, lr: float, seed: int
) -> None:
    """A shift of x changes no likelihood; with centred pixels a plain optimiser gets there in seconds.

    All rows are also the validation rows, so the best epoch is chosen under the same noise each time.
    """
    rows = rows_of("digits")
    data = as_data(rows - rows.mean(0), "digits")
    data = replace(data, valid=data.train)
    recipe = lb.recipes.linear_vae(data.spec, latent_dim=q).replace(objective=ELBO(num_samples))
    run = lb.fit(recipe, data, epochs=epochs, batch_size=600, lr=lr, lr_schedule="cosine", seed=seed, progress=False)
    assert_at_optimum(run.model, data, Optimum(rows, q), GOLDEN["digits", q])


def test_with_a_learned_variance_units_without_structure_collapse() -> None:
    """Three directions stand out from a flat spectrum; five units are offered and three are used."""
    eigenvalues = np.array([5.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    noise = np.random.default_rng(0).standard_normal((211, 7))
    white = np.linalg.qr(noise - noise.mean(0))[0] * np.sqrt(211)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 7)))[0]
    rows = (white * np.sqrt(eigenvalues)) @ turn
    optimum, data = Optimum(rows, 5, s2=1.0), as_data(rows, "three of seven")
    assert Optimum(rows, 5).s2 == pytest.approx(1.0)  # s2 = 1 is the maximum, up to rounding
    model = optimum.plant(lb.recipes.linear_vae(data.spec, latent_dim=5).build()[0])
    assert lb.active_units(model, data.train) == 3
    assert mean_log_w(model, data) == pytest.approx(optimum.log_likelihood, abs=1e-4)


def fixed_variance(spec: lb.DataSpec, latents: int, s2: float, beta: float) -> lb.Recipe:
    likelihood, posterior = FixedNormal(spec.shape, math.sqrt(s2)), Normal((latents,))
    encoder = Encoder([MLP(spec.shape, posterior.params, hidden=())])
    decoder = Conditional(MLP((latents,), likelihood.params, hidden=()), likelihood)
    return lb.Recipe(spec, encoder, (Flat(posterior, StandardNormal((latents,))),), decoder, ELBO(beta=beta))


# iris has eigenvalues 2.918, 0.914, 0.147, 0.021
COLLAPSE = [(0.01, 1.0, 3), (0.1, 1.0, 3), (0.5, 1.0, 2), (0.1, 4.0, 2), (1.4, 1.0, 1), (0.1, 14.0, 1), (0.5, 7.0, 0)]


@pytest.mark.parametrize(("s2", "beta", "active"), COLLAPSE)
def test_units_collapse_where_the_eigenvalue_is_below_beta_sigma2(s2, beta, active, monkeypatch) -> None:
    """With sigma^2 set, the optimum of distortion + beta rate is that of beta = 1 with beta sigma^2."""
    rows = rows_of("iris")
    data, optimum = as_data(rows, "iris"), Optimum(rows, 3, beta * s2)
    assert optimum.active == active
    model = optimum.plant(fixed_variance(data.spec, 3, s2, beta).build()[0].double())
    assert all(float(g.abs().max()) < 1e-7 for g in expected_gradient(model, f64(rows), beta, monkeypatch))
    with torch.no_grad():
        trace = model(lb.Batch(f64(rows)), 2)
    assert float(trace.terms()["rate"].mean()) == pytest.approx(optimum.rate, abs=1e-8)
    if beta == 1:
        assert float(trace.log_w.mean()) == pytest.approx(optimum.log_likelihood, abs=1e-8)
    assert lb.active_units(model.float(), data.train) == active


@pytest.mark.parametrize(("s2", "active"), [(0.5, 2), (1.4, 1)])
def test_training_collapses_exactly_those_units(s2: float, active: int) -> None:
    rows = rows_of("iris")
    data, optimum = as_data(rows, "iris"), Optimum(rows, 3, s2)
    data = replace(data, valid=data.train)
    recipe = fixed_variance(data.spec, 3, s2, 1.0).replace(objective=ELBO(16))
    run = lb.fit(recipe, data, epochs=300, batch_size=150, lr=0.1, lr_schedule="cosine", seed=1, progress=False)
    assert lb.active_units(run.model, data.train) == active
    assert float(lb.score(run.model, data.train, num_samples=2).rate.mean()) == pytest.approx(optimum.rate, abs=0.03)
    assert mean_log_w(run.model, data, 300) == pytest.approx(optimum.log_likelihood, abs=0.01)
