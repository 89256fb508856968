"""DReG and STL against the gradients they estimate, one number at a time and over many replicas.

z-scores of differences of two means over 20,000 replicas each: a single |z| > 6.5 has a chance of 8e-11, and no test
looks at more than 60 numbers, so each fails by chance below 5e-9 (by the normal approximation).
"""

import math

import pytest
import torch
from replicas import (
    DATUM,
    LATENT,
    SCALE,
    Pseudo,
    X,
    furthest,
    gradients,
    model,
    near_the_posterior,
    noise,
    signal_to_noise,
)

import lowerbound as lb
from lowerbound.core.objective import first_step
from lowerbound.objectives import IWAE, STL, DReG

ROWS, LIMIT = 20_000, 6.5
MODELS = {
    "normal prior": lambda rows: model(rows),
    "prior made of posteriors": lambda rows: model(rows, Pseudo(rows)),
    "ladder": lambda rows: model(rows, ladder=True),
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


@every_model
@pytest.mark.parametrize("num_samples", [1, 4])
def test_dreg_has_the_mean_gradient_of_iwae_in_every_parameter(build, num_samples) -> None:
    made = build(ROWS)
    scores = furthest(gradients(IWAE(num_samples), made), gradients(DReG(num_samples), made))
    assert set(scores) == {name for name, _ in made.named_parameters()}
    assert max(scores.values()) < LIMIT, scores


@every_model
def test_dreg_has_less_noise_in_the_encoder(build) -> None:
    made = build(5000)
    plain, doubly = gradients(IWAE(8), made), gradients(DReG(8), made)
    assert noise(doubly, "encoder") < 0.8 * noise(plain, "encoder")


def test_a_prior_that_does_not_lend_its_gradient_is_noticed() -> None:
    """A negative control: the encoder's part in the prior is large enough for the test above to see it."""
    plain = gradients(IWAE(4), model(ROWS, Pseudo(ROWS)))
    scores = furthest(plain, gradients(DReG(4), model(ROWS, Pseudo(ROWS, lends=False))))
    assert max(v for n, v in scores.items() if "encoder" in n) > 2 * LIMIT


def test_stl_is_biased_for_more_than_one_sample_and_not_for_one() -> None:
    made = model(ROWS)
    one = furthest(gradients(IWAE(1), made), gradients(STL(1), made))
    four = furthest(gradients(IWAE(4), made), gradients(STL(4), made))
    assert max(one.values()) < LIMIT
    assert max(v for n, v in four.items() if "encoder" in n) > 2 * LIMIT
    assert max(v for n, v in four.items() if "decoder" in n) < LIMIT


def closed_form(made: lb.VAE) -> dict[str, torch.Tensor]:
    """The gradient of minus the ELBO of one replica, from its closed form."""
    encoder, decoder = made.encoder.networks[0], made.decoder.network
    loc, log_variance = (encoder.weight[0] @ DATUM + encoder.bias[0]).unflatten(0, (2, LATENT)).unbind(0)
    variance, weight = log_variance.exp() + 1e-12, decoder.weight[0]
    residual = (DATUM - weight @ loc - decoder.bias[0]).square().sum() + (weight.square() @ variance).sum()
    rate = 0.5 * (loc.square() + variance - 1 - variance.log()).sum()
    loss = residual / (2 * SCALE**2) + X / 2 * math.log(2 * math.pi * SCALE**2) + rate
    names, parameters = zip(*made.named_parameters(), strict=True)
    return {n: g[:1].flatten(1) for n, g in zip(names, torch.autograd.grad(loss, parameters), strict=True)}


def test_stl_has_the_closed_form_gradient_of_the_elbo() -> None:
    made = model(ROWS)
    exact = closed_form(made)
    for name, found in gradients(STL(), made).items():
        z = (found.mean(0) - exact[name][0]) / (found.std(0) / ROWS**0.5)
        assert float(z.abs().max()) < LIMIT, name
    assert any(float(g.abs().max()) > 0.1 for g in exact.values())


@pytest.mark.parametrize("objective", [STL(), DReG(5)])
def test_at_the_posterior_the_encoder_has_no_noise_at_all(objective) -> None:
    """log w is log p(x) for every z; the plain gradient still has the score of q in it."""
    made = near_the_posterior(100)
    largest = max(float(g.abs().max()) for n, g in gradients(objective, made).items() if "encoder" in n)
    assert largest < 1e-9
    assert noise(gradients(IWAE(objective.num_samples), made), "encoder") > 0.1


def test_more_samples_bury_the_signal_of_iwae_and_raise_that_of_dreg() -> None:
    """Rainforth et al. 2018: about K^-1/2; Tucker et al. 2019: about K^1/2. Only the signs are tested.
    These rates hold for large K: with q farther off (`model`), that of DReG is 1.31, 1.25, 1.37, 1.90 at K = 1, 4, 16,
    64. So q is near the posterior here.

    The relative error of a ratio is at most 1 / (ratio sqrt(rows)), below 0.09 here, so that of a slope over K = 4 to
    64 is below 0.05: with slopes of about -0.5 and 0.3, a wrong sign is more than 6 of them away.
    """
    made = near_the_posterior(ROWS, shift=0.5, widen=0.5)
    for objective, sign in ((IWAE, -1), (DReG, 1)):
        few, many = (signal_to_noise(gradients(objective(k), made), "encoder") for k in (4, 64))
        assert min(few, many) > 0.08
        assert sign * math.log(many / few) / math.log(16) > 0


@pytest.mark.parametrize("objective", [STL, DReG])
@every_model
def test_the_value_is_the_bound_of_the_same_draws(build, objective) -> None:
    made, batch = build(7), lb.Batch(DATUM.expand(7, X))
    torch.manual_seed(3)
    found = objective(5)(made, batch, first_step())
    torch.manual_seed(3)
    wanted = IWAE(5)(made, batch, first_step())
    torch.testing.assert_close(found.losses["model"], wanted.losses["model"])
    for term, value in wanted.terms.items():
        torch.testing.assert_close(found.terms[term], value)
