"""Sums over labels, against integrals by hand, and what they are for: classes from few labels, clusters from none."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.families import Bernoulli, Normal
from lowerbound.families.onehot import OneHot
from lowerbound.groups import Conditioned, Flat
from lowerbound.networks import MLP
from lowerbound.objectives import LabelELBO
from lowerbound.priors import StandardNormal
from lowerbound.priors.discrete import UniformOneHot

C, F, D, S = 3, 2, 4, 20_000
X = torch.tensor([[1.0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]], dtype=torch.float64)
Y = torch.eye(C, dtype=torch.float64)[[2, 0, 1, 1, 0]]


def small_model():
    """Return M2 with linear networks, one latent dimension, and weights large enough to matter."""
    torch.manual_seed(3)
    label, z, px = OneHot((C,)), Normal((1,)), Bernoulli((D,))
    encoder = Encoder([MLP((D,), (C,), hidden=()), MLP((D,), (F,), hidden=())])
    groups = [
        Flat(label, UniformOneHot((C,))),
        Conditioned(MLP((F + C,), z.params, hidden=()), z, StandardNormal((1,)), keeps_state=True),
    ]
    model = lb.VAE(encoder, groups, Conditional(MLP((1 + C,), px.params, hidden=()), px)).double()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    return model


def affine(network, value):
    return value @ network.out.weight.detach().numpy().T + network.out.bias.detach().numpy()


def by_hand(model):
    """Return log q(y|x), -L(x, y) and log p(x, y), `[B, C]` each, by the trapezoid rule in z."""
    x, (first, second), lower = X.numpy(), model.encoder.networks, model.groups[1]
    logits = affine(first, x)
    log_q_y = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    t = np.linspace(-14, 14, 20_001)
    bound, joint = np.zeros((2, len(x), C))
    for b in range(len(x)):
        for c in range(C):
            y = np.eye(C)[c]
            mean, log_variance = affine(lower.network, np.concatenate([affine(second, x[b]), y]))
            sd = math.exp(log_variance / 2)
            log_px_z = {}
            for name, z in (("q", mean + sd * t), ("p", t)):
                eta = affine(model.decoder.network, np.concatenate([z[:, None], np.tile(y, (len(z), 1))], 1))
                log_px_z[name] = (x[b] * eta - np.logaddexp(0, eta)).sum(1)
            normal = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
            kl = 0.5 * (mean**2 + sd**2 - 1 - log_variance)
            bound[b, c] = np.trapezoid(normal * log_px_z["q"], t) - kl - math.log(C)
            joint[b, c] = math.log(np.trapezoid(normal * np.exp(log_px_z["p"]), t)) - math.log(C)
    return torch.tensor(log_q_y), torch.tensor(bound), torch.tensor(joint)


@pytest.fixture
def even_noise(monkeypatch):
    """Let the draws of z for each label be the S midpoints of equally probable intervals."""
    share = (torch.arange(S, dtype=torch.float64) + 0.5) / S
    noise = math.sqrt(2) * torch.erfinv(2 * share - 1)
    monkeypatch.setattr(torch, "randn", lambda size, **options: noise.repeat(C)[:, None, None].expand(size))


def shown_rows(objective, *rows):
    objective.shown, objective.share = torch.tensor(rows), len(rows) / len(X)
    return objective


def batch(y=Y):
    return lb.Batch(X, y=y, index=torch.arange(len(X)))


def test_rows_with_and_without_labels_have_the_bounds_of_the_paper(even_noise):
    """Midpoints leave out tails of 1e-4 of the variance; the bounds of different labels lie tenths apart."""
    model = small_model()
    objective = shown_rows(LabelELBO(0.4, alpha=0.7, num_samples=S), 1, 3)
    outcome = objective(model.train(), batch(), first_step())
    log_q, bound, _ = by_hand(model)
    without = (log_q.exp() * (bound - log_q)).sum(1)  # -U(x)
    of_label = (Y * bound).sum(1)  # -L(x, y)
    known = torch.tensor([False, True, False, True, False])
    expected = torch.where(known, of_label, without)
    torch.testing.assert_close(outcome.terms["elbo"], expected, rtol=0, atol=2e-3)
    assert float((of_label - without).abs().min()) > 0.02
    entropy = -(Y * log_q).sum(1)
    torch.testing.assert_close(outcome.terms["cross_entropy"], entropy)
    loss = (-expected).mean() + 0.7 * entropy[known].mean()  # alpha times the mean over the rows with labels
    assert float(outcome.losses["model"].detach()) == pytest.approx(float(loss), abs=2e-3)
    right = (log_q.argmax(1) == Y.argmax(1)).double()
    torch.testing.assert_close(outcome.terms["accuracy"].double(), right)


def test_an_observed_label_costs_log_p_y_and_no_closed_form_divergence(even_noise):
    model = small_model()
    objective = shown_rows(LabelELBO(1.0, num_samples=S), 0, 1, 2, 3, 4)
    trace = objective(model.train(), batch(), first_step()).trace
    label = trace.latents[0]
    assert not label.drawn
    torch.testing.assert_close(trace.mean(label.kl), torch.full((5,), math.log(C), dtype=torch.float64))
    torch.testing.assert_close(trace.mean(torch.ones_like(trace.log_px)), torch.ones(5, dtype=torch.float64))
    assert bool((trace.log_share.isinf().sum(0) == S * (C - 1)).all())


def test_labels_are_not_shown_outside_training_nor_to_rows_that_were_not_chosen(even_noise):
    model = small_model()
    log_q, bound, _ = by_hand(model)
    without = (log_q.exp() * (bound - log_q)).sum(1)
    objective = shown_rows(LabelELBO(0.4, num_samples=S), 1, 3)
    for given in (batch(), lb.Batch(X, y=Y), lb.Batch(X)):
        outcome = objective(model.eval(), given, first_step())
        torch.testing.assert_close(outcome.terms["elbo"], without, rtol=0, atol=2e-3)
    assert "accuracy" not in outcome.terms
    clusters = LabelELBO(0.0, num_samples=S)(model.train(), batch(), first_step())
    torch.testing.assert_close(clusters.terms["elbo"], without, rtol=0, atol=2e-3)
    assert set(clusters.terms) == {"distortion", "rate", "elbo"}


def test_shares_make_the_mean_of_the_weights_p_x_and_equal_weights_do_not(even_noise):
    model = small_model()
    trace = LabelELBO(0.0, num_samples=S)(model, batch(), first_step()).trace
    log_px = by_hand(model)[2].logsumexp(1)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), log_px, rtol=0, atol=5e-3)
    assert bool((trace.terms()["elbo"] < log_px - 0.01).all())
    naive = trace.log_w.logsumexp(0) - math.log(C * S)
    assert bool((naive > log_px + 0.01).any())  # not a bound: labels that q thinks unlikely have large weights


@pytest.mark.parametrize("num_samples", [1, 4])
def test_the_bound_of_a_few_draws_is_below_log_p_x(num_samples):
    """With exact sums over y, E log_mean_exp <= log p(x): means of 4000 passes, 5 standard errors apart (3e-7)."""
    torch.manual_seed(0)
    model = small_model()
    log_px = by_hand(model)[2].logsumexp(1)
    rows = lb.Batch(X.repeat_interleave(4000, 0))
    trace = LabelELBO(0.0, num_samples=num_samples)(model, rows, first_step()).trace
    values = trace.log_mean_exp(trace.log_w).unflatten(0, (5, 4000))
    assert bool((values.mean(1) - 5 * values.std(1) / 4000**0.5 < log_px).all())


def examples(order):
    y = torch.eye(C)[torch.tensor([0] * 30 + [1] * 20 + [2] * 5)]
    return lb.Batch(torch.zeros(55, D)[order], y=y[order], index=(100 + torch.arange(55))[order])


@pytest.mark.parametrize(("labelled", "counts"), [(12.0, [4, 4, 4]), (30.0, [13, 12, 5]), (0.2, [4, 4, 3])])
def test_the_shown_rows_are_as_many_as_asked_and_even_over_the_classes(labelled, counts):
    objective = LabelELBO(labelled, seed=2)
    objective.start_from(examples(torch.arange(55)))
    classes = examples(torch.arange(55)).y.argmax(1)[objective.shown - 100]
    found = sorted(classes.bincount(minlength=C).tolist(), reverse=True)
    assert found == counts
    assert objective.share == sum(counts) / 55
    again, other = LabelELBO(labelled, seed=2), LabelELBO(labelled, seed=3)
    again.start_from(examples(torch.randperm(55, generator=torch.Generator().manual_seed(1))))
    other.start_from(examples(torch.arange(55)))
    assert torch.equal(again.shown, objective.shown)
    assert not torch.equal(other.shown, objective.shown)


@pytest.mark.parametrize("wrong", [{"labelled": -0.1}, {"labelled": 1.5}, {"alpha": -1.0}, {"num_samples": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        LabelELBO(**wrong)


def test_other_numbers_of_classes_and_other_posteriors_are_refused():
    with pytest.raises(ShapeError, match="4 classes"):
        LabelELBO()(small_model(), batch(torch.eye(5, 4, dtype=torch.float64)), first_step())
    digits = lb.load_data("digits")
    with pytest.raises(Incompatible, match="sum over all values"):
        lb.recipes.vae(digits.spec).replace(objective=LabelELBO())
    with pytest.raises(Incompatible, match="draws without gradient"):
        lb.recipes.m2(digits.spec).replace(objective=lb.objectives.ELBO())
    with pytest.raises(UsageError, match="gmvae"):
        lb.recipes.m2(digits.spec, labelled=0.0)


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


def test_a_tenth_of_the_labels_teaches_m2_the_digits(digits):
    recipe = lb.recipes.m2(digits.spec, hidden=(64,))
    quick = recipe.replace(training=replace(recipe.training, lr=1e-2))
    run = lb.fit(quick, digits, epochs=8, seed=1, progress=False)
    model, rows = run.model, digits.test.matching(run.recipe.spec).batch(slice(None))
    right = (model.encode(rows.x).argmax(1) == rows.y.argmax(1)).float().mean()
    assert float(right) > 0.6  # chance is 0.1
    drawn = model.decode(torch.eye(10))
    assert drawn.shape == (10, 1, 8, 8)
    again = model.encode((drawn > 0.5).float()).argmax(1)
    assert int((again == torch.arange(10)).sum()) >= 7  # digits on demand


def test_gmvae_uses_several_clusters_that_have_to_do_with_the_digits(digits):
    run = lb.fit(lb.recipes.gmvae(digits.spec, hidden=(64,)), digits, epochs=8, seed=1, progress=False)
    rows = digits.test.matching(run.recipe.spec).batch(slice(None))
    cluster, digit = run.model.encode(rows.x).argmax(1), rows.y.argmax(1)
    table = torch.zeros(10, 10).index_put((cluster, digit), torch.ones(len(cluster)), accumulate=True)
    assert int((table.sum(1) > 5).sum()) >= 3
    assert float(table.max(1).values.sum() / len(cluster)) > 0.3  # purity; one cluster has about 0.1
