"""The traversal and the trace, on a two-group ladder whose answers are known exactly."""

import math

import pytest
import torch
from linear_ladder import BOTTOM, TOP, X, ladder, log_p, some_x

from lowerbound.core.types import Batch
from lowerbound.core.walk import from_prior, walk

K, B = 4, 7


def test_every_log_density_of_a_pass_is_K_by_B():
    trace = ladder()(Batch(some_x(B)), K)
    assert [latent.z.shape for latent in trace.latents] == [(K, B, TOP), (K, B, BOTTOM)]
    for latent in trace.latents:
        assert latent.log_q.shape == latent.log_p.shape == latent.kl.shape == (K, B)
        assert latent.drawn
    assert trace.log_px.shape == trace.log_share.shape == trace.log_w.shape == trace.kl.shape == (K, B)
    assert trace.px.batch_shape == (K, B)
    assert trace.px.event_shape == (X,)
    assert {name: term.shape for name, term in trace.terms().items()} == dict.fromkeys(
        ("distortion", "rate", "elbo"), (B,)
    )


def test_the_shares_of_the_samples_sum_to_one():
    trace = ladder()(Batch(some_x(B)), K)
    assert torch.equal(trace.log_share, torch.full((K, B), -math.log(K), dtype=torch.float64))


def test_exact_posteriors_make_every_importance_weight_log_p_of_x():
    # With q = p(z|x), p(x, z) / q(z|x) is p(x) whatever z was drawn: any lost constant or swapped axis shows.
    x = some_x(B)
    trace = ladder()(Batch(x), K)
    expected = log_p(x)
    torch.testing.assert_close(trace.log_w, expected.expand(K, B), rtol=0, atol=1e-10)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), expected, rtol=0, atol=1e-10)


def test_the_elbo_with_closed_form_kl_is_log_p_of_x_on_average():
    # The closed form replaces each sample's log q - log p, so only the mean is exact; 6 standard errors: 1e-8.
    x, num_samples = some_x(B), 20_000
    trace = ladder()(Batch(x), num_samples)
    each = trace.log_px - trace.kl
    error = each.std(0) / math.sqrt(num_samples)
    assert bool((trace.terms()["elbo"] - log_p(x)).abs().lt(6 * error).all())
    assert float(error.max()) < 0.05


@pytest.mark.parametrize("num_samples", [1, 13])
def test_the_encoder_runs_once_for_each_example_whatever_K_is(num_samples):
    model = ladder()
    model(Batch(some_x(B)), num_samples)
    assert [network.rows for network in model.encoder.networks] == [B, B]


def test_the_encoder_reads_what_is_seen_and_the_likelihood_scores_x():
    x, seen = some_x(B), torch.zeros(B, X, dtype=torch.float64)
    trace = ladder()(Batch(x, seen=seen), K)
    blind = ladder()(Batch(seen), K)
    torch.testing.assert_close(trace.latents[0].q.mean, blind.latents[0].q.mean)
    torch.testing.assert_close(trace.log_px, trace.px.log_prob(x))


def test_groups_are_visited_top_to_bottom_and_the_last_state_is_returned():
    model, visits = ladder(), []

    def spy(i, q, p, shape):
        visits.append((i, q, shape))
        return from_prior(i, q, p, shape)

    state, latents = walk(list(model.groups), None, None, model.infer, spy, (K, B))
    assert visits == [(0, None, (K, B)), (1, None, (K, B))]
    assert torch.equal(state, latents[1].z)


def test_infer_is_the_posterior_of_the_top_group():
    x = some_x(B)
    model = ladder()
    torch.testing.assert_close(model.infer(x).mean, model(Batch(x)).latents[0].q.mean)
    torch.testing.assert_close(model.encode(x), model.infer(x).mean)


def test_decode_gives_the_deeper_groups_their_priors_mean():
    model = ladder()
    z = torch.randn(B, TOP, dtype=torch.float64)
    padded = torch.nn.functional.pad(z, (0, BOTTOM - TOP))
    expected = model.decoder.network(model.groups[1].prior(z, None, None).mean)
    assert expected.shape == (B, X)
    torch.testing.assert_close(model.decode(z), expected)
    assert not torch.equal(model.decode(z)[:, :BOTTOM], padded)
