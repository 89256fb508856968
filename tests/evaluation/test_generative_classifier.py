"""p(y|x) of conditional models: against closed forms of linear-Gaussian ones, and scores against scikit-learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

import lowerbound as lb
from lowerbound.core.errors import DataError, Incompatible, NoDensity, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.data import from_arrays
from lowerbound.evaluation.generative_classifier import (
    calibration_error,
    class_log_px,
    class_shares,
    generative_classifier,
)
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

DIMS, LATENT, CLASSES, SCALE = 4, 2, 3, 0.6
WEIGHT = torch.tensor([[1.0, 0.2], [-0.5, 0.7], [0.3, -1.1], [0.8, 0.4]], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 1.0, -0.5, 0.3], [1.2, -0.4, 0.6, 0.0], [-0.7, 0.2, 1.0, 0.9]], dtype=torch.float64)
COVARIANCE = WEIGHT @ WEIGHT.T + SCALE**2 * torch.eye(DIMS, dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def drawn(rows, seed):
    """Return labelled rows of x = W z + m_y + noise with p(y) = SHARES, all of them training rows."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.multinomial(SHARES, rows, replacement=True, generator=generator)
    noise = torch.randn(rows, DIMS, generator=generator, dtype=torch.float64)
    x = MEANS[y] + noise @ torch.linalg.cholesky(COVARIANCE).T
    return from_arrays(x.float(), y, kind="points", valid_fraction=0.0, test_fraction=0.0).train


@pytest.fixture(scope="module")
def train():
    return drawn(500, 1)


@pytest.fixture(scope="module")
def held_out(train):
    return drawn(400, 2)


def linear_model(spec, *, exact):
    """Return p(x|y) = integral of N(W z + m_y, s^2) over z ~ N(0, I), with its posterior, or one that is too wide."""
    posterior = torch.linalg.inv(torch.eye(LATENT, dtype=torch.float64) + WEIGHT.T @ WEIGHT / SCALE**2)
    reading = posterior @ WEIGHT.T / SCALE**2
    # a normal family has one variance for each dimension: turn z to the axes of its posterior
    variance, axes = torch.linalg.eigh(posterior)
    family, likelihood = Normal((LATENT,)), FixedNormal((DIMS,), SCALE)
    encoder = MLP((DIMS,), family.params, hidden=(), condition=CLASSES)
    decoder = MLP((LATENT,), likelihood.params, hidden=(), condition=CLASSES)
    group = Flat(family, StandardNormal((LATENT,)))
    model = lb.VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood), spec)
    reading = axes.T @ reading
    with torch.no_grad():
        encoder.out.weight.zero_()
        encoder.out.weight[:LATENT] = torch.cat([reading, -reading @ MEANS.T], 1).float()
        wide = variance if exact else 2 * variance
        encoder.out.bias.copy_(family.bias_for(torch.zeros(LATENT), wide.float()).flatten())
        decoder.out.weight.copy_(torch.cat([WEIGHT @ axes, MEANS.T], 1))
        decoder.out.bias.zero_()
    return model.requires_grad_(False)


def truth(rows):
    """Return log p(x|y) `[N, C]` in closed form."""
    x = rows.x.double()
    return torch.stack([torch.distributions.MultivariateNormal(m, COVARIANCE).log_prob(x) for m in MEANS], 1)


def test_one_sample_of_the_exact_posterior_gives_the_exact_density(train, held_out):
    log_px, variance = class_log_px(linear_model(train.spec, exact=True), held_out, num_samples=1)
    torch.testing.assert_close(log_px, truth(held_out), atol=2e-5, rtol=1e-5)
    assert log_px.dtype == torch.float64
    assert bool(variance.isnan().all())


def test_an_encoder_that_saw_the_rows_own_label_would_be_told(train, held_out):
    # The exact posterior is that of the candidate: with its mean left where the row's own label puts it, one sample is
    # far off for the other classes.
    model = linear_model(train.spec, exact=True)
    with torch.no_grad():
        model.encoder.networks[0].out.weight[:, DIMS:] = 0
    log_px, _ = class_log_px(model, held_out, num_samples=1)
    assert float((log_px - truth(held_out)).abs().mean()) > 0.5


def test_many_samples_of_a_wide_posterior_come_near(train, held_out):
    log_px, variance = class_log_px(linear_model(train.spec, exact=False), held_out, num_samples=400)
    errors = (log_px - truth(held_out)) / variance.sqrt()
    # 1,200 independent errors of one standard deviation: 6 standard errors of mean and of square are 0.17 and 0.25
    assert abs(float(errors.mean())) < 0.2
    assert float(errors.square().mean()) == pytest.approx(1, abs=0.25)


def test_all_numbers_follow_from_the_closed_form(train, held_out):
    found = generative_classifier(linear_model(train.spec, exact=True), train, held_out, num_samples=2)
    share = torch.bincount(train.y, minlength=CLASSES) / len(train)
    joint = truth(held_out) + share.log()
    p = joint.softmax(1)
    right = p.argmax(1) == held_out.y
    assert found.accuracy.value == pytest.approx(float(right.double().mean()), abs=1e-12)
    assert found.majority.value == pytest.approx(float((held_out.y == share.argmax()).double().mean()), abs=1e-12)
    assert found.nll.value == pytest.approx(log_loss(held_out.y.numpy(), p.numpy()), abs=1e-4)
    one_hot = np.eye(CLASSES)[held_out.y.numpy()]
    assert found.brier.value == pytest.approx(float(((p.numpy() - one_hot) ** 2).sum(1).mean()), abs=1e-4)
    assert found.log_px.value == pytest.approx(float(joint.logsumexp(1).mean()), abs=1e-4)
    assert found.class_shares == pytest.approx(tuple(share.tolist()))
    assert (found.accuracy.n, found.log_px.side) == (400, "lower")
    assert found.accuracy.value > found.majority.value + 0.1


def test_the_classes_of_the_true_model_are_calibrated(train, held_out):
    # With 400 rows in 15 bins the error has a mean of about 0.05 by chance.
    sure = generative_classifier(linear_model(train.spec, exact=True), train, held_out, num_samples=2)
    assert sure.calibration_error < 0.12
    shuffled = replace(held_out, y=held_out.y.roll(1))
    assert generative_classifier(
        linear_model(train.spec, exact=True), train, shuffled, num_samples=2
    ).calibration_error > 0.2  # fmt: skip


def test_labels_of_test_rows_decide_nothing_but_what_is_right(train, held_out):
    model = linear_model(train.spec, exact=False)
    other = replace(held_out, y=held_out.y.roll(7))
    assert torch.equal(class_log_px(model, held_out, num_samples=3)[0], class_log_px(model, other, num_samples=3)[0])


def test_the_prior_is_that_of_the_training_rows(train, held_out):
    ones = replace(train, y=torch.where(torch.arange(len(train)) < 499, 1, 0))
    found = generative_classifier(linear_model(train.spec, exact=True), ones, held_out, num_samples=2)
    assert found.class_shares == pytest.approx((0.002, 0.998, 0))
    assert (found.nll.value, found.accuracy.n) == (None, 400)  # class 2 cannot be, and is
    assert "not finite" in found.nll.reason


def test_the_samplers_error_is_that_of_the_gradient(train, held_out):
    # Var f(l_1, ..., l_C) = sum_c (df / dl_c)^2 Var l_c for independent l_c, with slopes by automatic differentiation.
    model = linear_model(train.spec, exact=False)
    found = generative_classifier(model, train, held_out, num_samples=30)
    log_px, variance = class_log_px(model, held_out, num_samples=30)
    joint = (log_px + class_shares(train).log()).requires_grad_()
    means = {"nll": torch.nn.functional.cross_entropy(joint, held_out.y), "log_px": joint.logsumexp(1).mean()}
    for name, mean in means.items():
        (slope,) = torch.autograd.grad(mean, joint, retain_graph=True)
        assert getattr(found, name).value == pytest.approx(mean.item(), abs=1e-9)
        assert getattr(found, name).mc_se == pytest.approx(float((slope.square() * variance).sum().sqrt()), rel=1e-9)
    assert generative_classifier(model, train, held_out, num_samples=1).nll.mc_se is None


def test_blocks_do_not_matter(train, held_out):
    model = linear_model(train.spec, exact=False)
    whole, _ = class_log_px(model, held_out, num_samples=5)
    part, _ = class_log_px(model.train(), held_out.take(100), num_samples=5)
    assert model.training
    assert torch.equal(whole[:100], part)


def test_class_shares_follow_weights(train):
    rows = replace(train.take(4), y=torch.tensor([0, 2, 2, 0]), weight=torch.tensor([1.0, 1, 1, 5]))
    assert class_shares(rows).tolist() == [0.75, 0, 0.25]


def test_the_calibration_error_of_two_bins():
    confidence = torch.tensor([0.6, 0.8, 0.5, 0.4])  # bins (0, 0.5] and (0.5, 1]
    right = torch.tensor([1.0, 0.0, 1.0, 0.0])
    # |(1 - 0.6) + (0 - 0.8)| / 4 + |(1 - 0.5) + (0 - 0.4)| / 4
    assert calibration_error(confidence, right, torch.full((4,), 0.25), bins=2) == pytest.approx(0.125)
    assert calibration_error(torch.ones(4), torch.ones(4), torch.full((4,), 0.25)) == 0


def test_as_text_and_as_json(train, held_out):
    found = generative_classifier(linear_model(train.spec, exact=True), train, held_out, num_samples=2)
    assert "log p(x) = log sum_y p(x|y) p(y)" in str(found)
    assert "expected error in 15 bins" in str(found)
    assert math.isclose(sum(found.to_json()["class_shares"]), 1)
    assert found.to_json()["nll"]["num_samples"] == 2


def test_bad_inputs(train, held_out):
    model = linear_model(train.spec, exact=True)
    with pytest.raises(UsageError, match="number of samples cannot be 0"):
        generative_classifier(model, train, held_out, num_samples=0)
    with pytest.raises(DataError, match="no labelled train rows"):
        generative_classifier(model, train, replace(held_out, y=None))
    with pytest.raises(DataError, match="no labelled train rows"):
        generative_classifier(model, replace(train, y=None), held_out)


@pytest.mark.parametrize(
    ("recipe", "says"), [("vae", "knows nothing of a label"), ("m2", "is a latent, not a condition")]
)
def test_models_without_a_condition_are_refused(recipe, says):
    data = lb.load_data("digits")
    model = lb.recipes.__dict__[recipe](data.spec, latent_dim=2, hidden=(8,)).build(0)[0]
    rows = data.test.matching(model.spec)
    with pytest.raises(Incompatible, match=says):
        generative_classifier(model, rows, rows)


def test_a_model_without_density_is_refused():
    data = lb.load_data("digits")
    recipe = lb.recipes.cvae(data.spec, latent_dim=2, hidden=(8,))
    model = recipe.build(0)[0]
    model.decoder.family.has_density = False
    rows = data.test.matching(model.spec)
    with pytest.raises(NoDensity, match="no bound"):
        generative_classifier(model, rows, rows)
    model.decoder.family.has_density = True
    model.decoder.family.target = "E[log p(x)] over x ~ Bernoulli(grey)"
    with pytest.raises(Incompatible, match=r"Bernoulli scores E\[log p"):
        generative_classifier(model, rows, rows)
