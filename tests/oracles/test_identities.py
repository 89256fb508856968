"""Identities that hold whatever the weights are: grey pixels, squares for the KL, duplicated pixels and rows."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from oracle_parts import constant_posterior, cubature, f64, inject, linear_model, on_grid, set_posterior, z_score
from torch import Tensor

import lowerbound as lb
from lowerbound.core.kl import kl_divergence
from lowerbound.core.model import Conditional, Encoder, Family
from lowerbound.core.objective import Objective, first_step
from lowerbound.core.walk import from_posterior, from_prior, mode, observe, replay
from lowerbound.families import Bernoulli, FixedNormal, GreyBernoulli, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO, SimpleRegularizer
from lowerbound.priors import StandardNormal

GREY = f64([[0.1, 0.5, 0.0, 0.8], [0.3, 1.0, 0.6, 0.25]])  # B = 2 examples of 4 pixels


def pixel_model(family: Family) -> lb.VAE:
    """A VAE with 3 latents and hidden layers; models of 4 pixels get the same weights."""
    torch.manual_seed(5)
    posterior = Normal((3,))
    encoder = MLP(family.event_shape, posterior.params, hidden=(7,), activation="tanh")
    decoder = MLP((3,), family.params, hidden=(6,), activation="tanh")
    groups = [Flat(posterior, StandardNormal((3,)))]
    return lb.VAE(Encoder([encoder]), groups, Conditional(decoder, family)).double().requires_grad_(False)


def binarised(num_samples: int) -> tuple[lb.Trace, Tensor, Tensor]:
    """Return the trace of the grey model, log_w `[16, K, 2]` of all 16 binarisations for the same z, their chances."""
    z = torch.randn(num_samples, 2, 3, dtype=torch.float64)
    grey = pixel_model(GreyBernoulli((4,)))(lb.Batch(GREY), num_samples, replay({0: z}))
    images = f64(list(itertools.product([0.0, 1.0], repeat=4)))
    model, log_w = pixel_model(Bernoulli((4,))), []
    for x in images:
        log_w.append(model(lb.Batch(x.expand(2, 4), seen=GREY), num_samples, replay({0: z})).log_w)
    chance = torch.where(images[:, None] == 1, GREY, 1 - GREY).prod(2)  # [16, 2]
    return grey, torch.stack(log_w), chance


def test_grey_cross_entropy_is_the_mean_over_all_binarisations() -> None:
    """log Bernoulli(x|z) is linear in x, so this holds for every z, not on average only."""
    grey, log_w, chance = binarised(5)
    torch.testing.assert_close(chance.sum(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(grey.log_w, (chance[:, None] * log_w).sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grey.kl, grey.latents[0].log_q - grey.latents[0].log_p)


@pytest.mark.parametrize("num_samples", [1, 2, 9])
def test_k_samples_of_grey_pixels_bound_the_mean_of_the_binarised_bounds(num_samples: int) -> None:
    """By the convexity of logsumexp; with one sample nothing is lost."""
    grey, log_w, chance = binarised(num_samples)
    bounds = torch.logsumexp(log_w, 1) - math.log(num_samples)
    gap = (chance * bounds).sum(0) - grey.log_mean_exp(grey.log_w)
    if num_samples == 1:
        torch.testing.assert_close(gap, torch.zeros(2, dtype=torch.float64))
    else:
        assert bool((gap > 1e-4).all())


def test_the_grey_elbo_is_below_the_expected_log_p_of_binarised_pixels() -> None:
    """Both by integration over one latent, where the slack is the mean divergence from the posteriors."""
    weight, bias = f64([[1.0], [-2.0], [0.5], [3.0]]), f64([0.0, 0.5, -1.0, 0.2])
    models = {
        f: constant_posterior(linear_model(f((4,)), weight, bias), [0.3], [0.7]) for f in (GreyBernoulli, Bernoulli)
    }
    grey = on_grid(models[GreyBernoulli], lb.Batch(GREY[:1]))
    images = f64(list(itertools.product([0.0, 1.0], repeat=4)))
    binary = on_grid(models[Bernoulli], lb.Batch(images))
    chance = torch.where(images == 1, GREY[0], 1 - GREY[0]).prod(1)
    assert float(grey.mean(grey.log_w)) == pytest.approx(float(chance @ binary.mean(binary.log_w)), abs=1e-10)
    assert float(grey.mean(grey.log_w)) < float(grey.log_mean_exp(grey.log_w)) - 0.01
    assert float(grey.log_mean_exp(grey.log_w)) < float(chance @ binary.log_mean_exp(binary.log_w)) - 0.01


def test_a_thousand_dynamic_binarisations_agree_with_grey_pixels() -> None:
    """z-scores of two examples below 5.5: false-fail rate 8e-8. The pixels come from the data set's own draws."""
    stored = torch.tensor([[[26, 128, 0, 204]], [[77, 255, 153, 64]]], dtype=torch.uint8)  # [2, 1, 4]: images 1 x 4
    data = lb.from_arrays(stored, kind="image", valid_fraction=0.0, test_fraction=0.0, binarize="dynamic").train
    dynamic = data.matching(data.spec, resample=True)
    x = torch.stack([dynamic.batch(slice(None)).x.flatten(1) for _ in range(1000)]).double()  # [1000, 2, 4]
    assert set(x.unique().tolist()) == {0.0, 1.0}
    grey, z = data.values().flatten(1).double(), torch.randn(3, 1, 3, dtype=torch.float64)
    expected = pixel_model(GreyBernoulli((4,)))(lb.Batch(grey), 3, replay({0: z.expand(3, 2, 3)})).log_w.mean(0)
    model = pixel_model(Bernoulli((4,)))
    for i in range(2):
        batch = lb.Batch(x[:, i], seen=grey[i].expand(1000, 4))
        elbo = model(batch, 3, replay({0: z.expand(3, 1000, 3)})).log_w.mean(0)
        assert abs(z_score(elbo, float(expected[i]))) < 5.5


def penalty_and_rate(mean: float, log_variance: float) -> tuple[float, float]:
    likelihood = FixedNormal((2,), scale=1.5)
    model = linear_model(likelihood, f64([[1.0], [0.3]]), f64([0.0, 0.0]))
    constant_posterior(model, [mean], [math.exp(log_variance)])
    outcome = SimpleRegularizer()(model, lb.Batch(f64([[0.2, 0.4], [1.0, -1.0], [0.0, 3.0]])), first_step())
    penalty = outcome.losses["model"] - outcome.terms["distortion"].mean()
    return float(penalty), float(outcome.terms["rate"].mean())


@pytest.mark.parametrize("direction", [(0.8, 0.0), (0.0, 1.0), (-0.6, -0.9)])
def test_the_two_squares_agree_with_the_kl_to_second_order(direction: tuple[float, float]) -> None:
    """Halving the step divides the difference by 8: it is of third order."""
    gaps = []
    for step in (0.04, 0.02):
        penalty, rate = penalty_and_rate(step * direction[0], step * direction[1])
        assert penalty == pytest.approx(0.5 * (step * direction[0]) ** 2 + 0.25 * (step * direction[1]) ** 2, rel=1e-6)
        gaps.append(rate - penalty)
    if direction[1] == 0:
        assert gaps == pytest.approx([0.0, 0.0], abs=1e-9)  # mu^2/2 is the KL of a shift, exactly
    else:
        assert gaps[0] / gaps[1] == pytest.approx(8, rel=0.02)


def test_far_away_the_square_overcharges() -> None:
    penalty, rate = penalty_and_rate(0.0, -4.0)
    assert penalty == pytest.approx(4.0, abs=1e-3)
    assert rate == pytest.approx(0.5 * (math.exp(-4) - 1 + 4), abs=1e-6)  # 1.51


def test_duplicated_pixels_double_the_distortion_and_leave_the_rate() -> None:
    weight, bias = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    gain, shift, variance = torch.randn(2, 3, dtype=torch.float64), f64([0.3, -0.2]), f64([0.5, 0.1])
    once, twice = (
        linear_model(Bernoulli((3,)), weight, bias),
        linear_model(Bernoulli((6,)), weight.tile(2, 1), bias.tile(2)),
    )
    set_posterior(once, gain, shift, variance)
    set_posterior(twice, gain.tile(1, 2) / 2, shift, variance)
    x = torch.bernoulli(torch.full((5, 3), 0.4, dtype=torch.float64))
    terms = []
    for model, rows in ((once, x), (twice, x.tile(1, 2))):
        torch.manual_seed(8)
        terms.append(model(lb.Batch(rows), 4).terms())
    torch.testing.assert_close(terms[1]["distortion"], 2 * terms[0]["distortion"])
    torch.testing.assert_close(terms[1]["rate"], terms[0]["rate"])


@pytest.mark.parametrize("objective", [ELBO(3), ELBO(2, beta=4.0), SimpleRegularizer()])
def test_doubled_rows_leave_the_loss(monkeypatch, objective: Objective) -> None:
    """The loss is a mean over rows; a row of weight 2 counts like the row twice."""
    model, x = pixel_model(Bernoulli((4,))), GREY.round()
    inject(monkeypatch, torch.randn(getattr(objective, "num_samples", 1), 3, dtype=torch.float64))

    def loss(batch: lb.Batch) -> Tensor:
        return objective(model, batch, first_step()).losses["model"]

    torch.testing.assert_close(loss(lb.Batch(x.tile(2, 1))), loss(lb.Batch(x)))
    three = loss(lb.Batch(torch.cat([x, x[:1]])))
    assert abs(float(three - loss(lb.Batch(x)))) > 1e-3
    torch.testing.assert_close(loss(lb.Batch(x, weight=f64([4 / 3, 2 / 3]))), three)


def test_one_sample_of_the_k_sample_bound_is_the_elbo_of_that_draw(monkeypatch) -> None:
    """Against log_w for every draw; against the closed-form rate only on average, here exactly by cubature."""
    model, batch = pixel_model(Bernoulli((4,))), lb.Batch(GREY.round())
    trace = model(batch)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), trace.log_w[0])
    replayed = model(batch, 1, replay({0: trace.latents[0].z}))
    torch.testing.assert_close(replayed.terms()["elbo"], trace.log_w[0])
    assert float((trace.terms()["elbo"] - trace.log_w[0]).abs().min()) > 1e-3
    inject(monkeypatch, cubature(3))
    latent = model(batch, 6).latents[0]
    torch.testing.assert_close(latent.kl.mean(0), (latent.log_q - latent.log_p).mean(0))


@pytest.mark.parametrize("name", ["from_posterior", "replay", "observe", "mode", "from_prior"])
def test_the_closed_form_rate_is_used_only_for_draws_of_q(name: str) -> None:
    model, batch, z = pixel_model(Bernoulli((4,))), lb.Batch(GREY.round()), torch.randn(5, 2, 3, dtype=torch.float64)
    source = {"from_posterior": from_posterior, "replay": replay({0: z}), "observe": observe({0: z}), "mode": mode}
    latent = model(batch, 5, source.get(name, from_prior)).latents[0]
    closed = kl_divergence(latent.q, latent.p).expand(5, 2)
    sampled = {
        "replay": latent.q.log_prob(z) - latent.p.log_prob(z),
        "observe": -latent.p.log_prob(z),
        "mode": (latent.q.log_prob(latent.q.mean) - latent.p.log_prob(latent.q.mean)).expand(5, 2),
        "from_prior": torch.zeros(5, 2, dtype=torch.float64),
    }
    torch.testing.assert_close(latent.kl, sampled.get(name, closed))
    assert latent.drawn == (name == "from_posterior")
    if name != "from_posterior":
        assert float((latent.kl - closed).abs().min()) > 1e-3


def test_draws_of_the_prior_have_the_weights_p_of_x_given_z() -> None:
    trace = pixel_model(Bernoulli((4,)))(lb.Batch(GREY.round()), 5, from_prior)
    torch.testing.assert_close(trace.log_w, trace.log_px)
    assert float(trace.latents[0].log_q.abs().min()) > 1e-3  # log p(z), not 0


def test_shares_that_sum_to_one_are_the_same_as_repeated_samples() -> None:
    """Shares 3/4 and 1/4 of two samples are the averages of four equal samples, of which three coincide."""
    model, batch = pixel_model(Bernoulli((4,))), lb.Batch(GREY.round())
    z = torch.randn(2, 2, 3, dtype=torch.float64)
    four = model(batch, 4, replay({0: z[[0, 0, 0, 1]]}))
    two = model(batch, 2, replay({0: z}))
    two = replace(two, log_share=f64([0.75, 0.25]).log()[:, None].expand(2, 2))
    torch.testing.assert_close(two.log_mean_exp(two.log_w), four.log_mean_exp(four.log_w))
    for name, term in four.terms().items():
        torch.testing.assert_close(two.terms()[name], term)
