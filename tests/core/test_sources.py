"""Where z comes from: each source's z, log q and flag, and what the trace makes of them."""

import pytest
import torch
from linear_ladder import BOTTOM, TOP, ladder, log_p, some_x

from lowerbound.core.types import Batch
from lowerbound.core.walk import folded, from_posterior, from_prior, mode, observe, replay

K, B = 4, 7


def given(size, rows=B, samples=K):
    """Return values for one group, `[samples, rows, size]`."""
    return torch.randn(samples, rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def test_observed_values_cost_nothing_and_are_never_given_a_closed_form():
    z = given(TOP)
    top, bottom = ladder()(Batch(some_x(B)), K, observe({0: z})).latents
    assert torch.equal(top.z, z)
    assert torch.equal(top.log_q, torch.zeros(K, B, dtype=torch.float64))
    assert not top.drawn
    torch.testing.assert_close(top.kl, -top.log_p)
    assert bottom.drawn


def test_replayed_values_cost_what_the_posterior_says():
    z = given(BOTTOM)
    top, bottom = ladder()(Batch(some_x(B)), K, replay({1: z})).latents
    assert torch.equal(bottom.z, z)
    torch.testing.assert_close(bottom.log_q, bottom.q.log_prob(z))
    assert not bottom.drawn
    assert top.drawn
    torch.testing.assert_close(bottom.kl, bottom.log_q - bottom.log_p)


def test_replaying_a_pass_gives_its_weights_again():
    x = some_x(B)
    first = ladder()(Batch(x), K)
    again = ladder()(Batch(x), K, replay({i: latent.z for i, latent in enumerate(first.latents)}))
    torch.testing.assert_close(again.log_w, first.log_w)
    torch.testing.assert_close(again.log_w, log_p(x).expand(K, B))


def test_the_rest_of_a_source_may_be_another_source():
    z = given(TOP)
    latents = ladder()(Batch(some_x(B)), K, replay({0: z}, mode)).latents
    torch.testing.assert_close(latents[1].z, latents[1].q.mean)


def test_the_mode_is_the_posterior_mean_and_not_a_draw():
    x = some_x(B)
    first, second = (ladder()(Batch(x), K, mode) for _ in range(2))
    top, bottom = first.latents
    torch.testing.assert_close(top.z, top.q.mean.expand(K, B, TOP))
    torch.testing.assert_close(bottom.z, bottom.q.mean)
    assert not top.drawn
    assert torch.equal(first.log_px, second.log_px)


def test_drawing_from_the_prior_makes_the_weight_the_likelihood():
    trace = ladder()(Batch(some_x(B)), K, from_prior)
    for latent, size in zip(trace.latents, (TOP, BOTTOM), strict=True):
        assert latent.z.shape == (K, B, size)
        assert torch.equal(latent.log_q, latent.log_p)
        assert not latent.drawn
    torch.testing.assert_close(trace.log_w, trace.log_px)
    # a prior shared by all examples must still be drawn from once for each of them
    assert trace.latents[0].z.flatten().unique().numel() == K * B * TOP


def test_a_closed_form_stands_for_z_only_where_z_was_drawn():
    trace = ladder()(Batch(some_x(B)), K, from_posterior)
    sampled = trace.latents[0].log_q - trace.latents[0].log_p
    assert torch.equal(trace.latents[0].kl[0], trace.latents[0].kl[K - 1])  # one number for all samples of a datum
    assert not torch.allclose(trace.latents[0].kl, sampled)


@pytest.mark.parametrize("lead", [(K, B), (6, K, B)])
def test_folding_calls_the_network_once_on_one_flat_axis_and_broadcasts_the_condition(lead):
    calls = []

    def network(x, y):
        calls.append((tuple(x.shape), tuple(y.shape)))
        return x.sum((1, 2))[:, None] * y

    x, y = torch.randn(*lead, 3, 2), torch.randn(B, 5)
    out = folded(network, (x, 2), (y, 1))
    rows = x[..., 0, 0].numel()
    assert calls == [((rows, 3, 2), (rows, 5))]
    torch.testing.assert_close(out, x.sum((-1, -2))[..., None] * y)


def test_folding_passes_none_through_and_leaves_single_batches_alone():
    seen = []

    def network(x, y):
        seen.append((x, y))
        return x

    x = torch.randn(B, 3)
    assert folded(network, (x, 1), (None, 1)) is x
    assert seen[0][0] is x
    assert seen[0][1] is None
