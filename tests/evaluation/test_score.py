"""Scores: against an independent sum, and independent of how the work is cut into blocks and chunks."""

import math

import pytest
import torch

from lowerbound import load_data, recipes
from lowerbound.core.errors import NoDensity, UsageError
from lowerbound.core.model import inference
from lowerbound.core.noise import Stream, seeded
from lowerbound.core.walk import from_prior
from lowerbound.evaluation import score


@pytest.fixture(scope="module")
def model():
    return recipes.vae(load_data("digits").spec, latent_dim=3, hidden=(7,)).build(1)[0]


@pytest.fixture(scope="module")
def rows(model):
    return load_data("digits").test.matching(model.spec)


def equal(one, other):
    pairs = ((getattr(one, name).nan_to_num(-1), getattr(other, name).nan_to_num(-1)) for name in vars(one))
    return all(torch.equal(*pair) for pair in pairs)


def by_hand(model, rows, num_samples, seed):
    """Score with all samples in one piece, in float64, from the noise of one block."""
    with inference(model), seeded(Stream.EVALUATION, seed, 0, 0):
        trace = model(rows.batch(slice(None)), num_samples)
    log_w = trace.log_w.double()
    w = (log_w - log_w.max(0).values).exp()

    def mean_log(part):
        return part.mean(0).log()

    log_px = log_w.max(0).values + w.mean(0).log()
    return (
        -trace.log_px.double().mean(0),
        trace.kl.double().mean(0),
        log_px,
        w.var(0) / num_samples / w.mean(0).square(),
        log_px - (mean_log(w[: (num_samples + 1) // 2]) + mean_log(w[(num_samples + 1) // 2 :])) / 2 - log_w.amax(0),
        w.sum(0).square() / w.square().sum(0),
    )


@pytest.mark.parametrize("num_samples", [2, 37, 100])
def test_one_block_equals_the_plain_sum(model, rows, num_samples):
    found = score(model, rows.take(29), num_samples=num_samples, seed=6)
    values = {name: value for name, value in vars(found).items() if name != "k_hat"}
    for value, expected in zip(values.values(), by_hand(model, rows.take(29), num_samples, 6), strict=True):
        assert value.dtype == torch.float64
        assert value.shape == (29,)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("num_samples", [1, 100, 101, 250])
def test_a_number_of_samples_that_does_not_divide_the_chunk_is_normalised_right(model, rows, num_samples):
    # The chunks hold 100 samples: 250 must be divided by 250, not by the 300 of three whole ones.
    few, traces = rows.take(5), []
    with inference(model):
        for chunk, start in enumerate(range(0, num_samples, 100)):
            with seeded(Stream.EVALUATION, 2, 0, chunk):
                traces.append(model(few.batch(slice(None)), min(100, num_samples - start)))
    log_w, log_px_z, kl = (torch.cat([getattr(t, name).double() for t in traces]) for name in ("log_w", "log_px", "kl"))
    assert log_w.shape == (num_samples, 5)
    found = score(model, few, num_samples=num_samples, seed=2)
    expected = torch.logsumexp(log_w, 0) - math.log(num_samples)
    torch.testing.assert_close(found.log_px, expected, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.distortion, -log_px_z.mean(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(found.rate, kl.mean(0), rtol=1e-6, atol=0)


def test_rows_of_one_block_do_not_depend_on_how_many_blocks_follow(model, rows):
    whole, part = score(model, rows, num_samples=7), score(model, rows.take(100), num_samples=7)
    for name, value in vars(whole).items():
        assert value.shape == (len(rows),)
        assert torch.equal(value[:100].nan_to_num(-1), getattr(part, name).nan_to_num(-1))


def test_each_block_and_each_chunk_has_noise_of_its_own(model, rows):
    twice = type(rows)(rows.x[:1].repeat(200, 1, 1, 1), None, rows.spec, rows.split)
    found = score(model, twice, num_samples=1).log_px
    assert not torch.equal(found[:100], found[100:])
    assert score(model, rows.take(3), num_samples=200).log_px.tolist() != score(model, rows.take(3)).log_px.tolist()


def test_a_seed_decides_and_the_mode_does_not(model, rows):
    model.train()
    first = score(model, rows, num_samples=3, seed=9)
    assert model.training
    model.eval()
    assert equal(score(model, rows, num_samples=3, seed=9), first)
    assert not equal(score(model, rows, num_samples=3, seed=10), first)


def test_more_samples_give_a_higher_bound_on_average(model, rows):
    bounds = [float(score(model, rows, num_samples=k).log_px.mean()) for k in (1, 10, 100)]
    assert bounds == sorted(bounds)


def test_drawing_from_the_prior_estimates_the_same_number(model, rows):
    # Both are unbiased for p(x); of an untrained model the prior is a good proposal too. 6 standard errors.
    q = score(model, rows.take(40), num_samples=3000)
    p = score(model, rows.take(40), num_samples=3000, source=from_prior)
    spread = (q.variance + p.variance).sqrt()
    assert bool(((q.log_px - p.log_px).abs() < 6 * spread).all())
    assert float(spread.max()) < 0.2
    assert bool((p.rate == 0).all())


def test_the_samplers_variance_is_that_of_repeated_runs(model, rows):
    few = rows.take(20)
    runs = torch.stack([score(model, few, num_samples=50, seed=seed).log_px for seed in range(60)])
    stated = score(model, few, num_samples=3000).variance * 3000 / 50
    assert float(runs.var(0).mean()) == pytest.approx(float(stated.mean()), rel=0.35)


def test_one_sample_has_no_spread(model, rows):
    assert bool(score(model, rows.take(5), num_samples=1).variance.isnan().all())
    assert bool(score(model, rows.take(5), num_samples=2).variance.isfinite().all())


@pytest.mark.parametrize("num_samples", [0, -1])
def test_fewer_than_one_sample(model, rows, num_samples):
    with pytest.raises(UsageError, match=str(num_samples)):
        score(model, rows, num_samples=num_samples)


def test_a_model_without_density_has_no_scores(rows):
    plain = recipes.ae(load_data("digits").spec, latent_dim=3, hidden=(7,)).build()[0]
    with pytest.raises(NoDensity, match="Delta") as caught:
        score(plain, rows)
    assert caught.value.exit_code == 2
