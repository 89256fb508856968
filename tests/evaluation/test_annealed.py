"""Annealed importance sampling: bounds and unbiased weights on a linear model, whose log p(x) is known."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

import lowerbound as lb
from lowerbound.core.errors import Incompatible, NoDensity, UsageError
from lowerbound.evaluation import annealed as module
from lowerbound.evaluation.annealed import Annealing, annealed, bidirectional, rate_distortion, simulated
from lowerbound.families import Dequantized, FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

WEIGHT, BIAS, S2, X = [1.0, 2.0], [0.1, -0.2], 0.5, [0.3, -0.7]
LOG_P = -2.517313885884949  # log N(X; BIAS, WEIGHT WEIGHT' + S2 I), from scipy
SHAPE = torch.Size([2])


def oracle(latents=1):
    """Return the linear model of the oracle; with 2 latents the second one is not used. q(z|x) = N(1/2, e^-1)."""
    posterior, likelihood = Normal((latents,)), FixedNormal((2,), math.sqrt(S2))
    encoder, decoder = MLP((2,), posterior.params, hidden=()), MLP((latents,), (2,), hidden=())
    with torch.no_grad():
        encoder.out.weight.zero_()
        encoder.out.bias.copy_(torch.tensor([0.5] * latents + [-1.0] * latents))
        decoder.out.weight.zero_()
        decoder.out.weight[:, 0] = torch.tensor(WEIGHT)
        decoder.out.bias.copy_(torch.tensor(BIAS))
    group = Flat(posterior, StandardNormal((latents,)))
    return lb.VAE(lb.Encoder([encoder]), [group], lb.Conditional(decoder, likelihood), rows(1).spec)


def rows(count, x=X):
    spec = lb.DataSpec("oracle", (2,), "table", "real", count, binarize="none")
    return lb.Dataset(torch.tensor(x).expand(count, 2).clone(), None, spec, "test")


def z_score(values, expected):
    return float((values.mean() - expected) / (values.std() / math.sqrt(len(values))))


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_the_mean_weight_is_p_and_the_mean_log_weight_is_below(start):
    """800 runs of one chain and 5 temperatures: |z| < 5.5 fails in 4 of 10^8 tests; the bound is below by 5.5 se.

    Of importance sampling (one temperature), as a control, the bound lies lower by far more.
    """
    model = oracle(2 if start == "prior" else 1)  # q is narrower than the prior: its weights would have no variance
    few = annealed(model, rows(800), Annealing(5, 1, 3, start), seed=1).log_px
    one = annealed(model, rows(800), Annealing(1, 1, 3, start), seed=1).log_px
    assert abs(z_score((few - LOG_P).exp(), 1.0)) < 5.5
    assert z_score(few, LOG_P) < -5.5
    assert float(few.mean() - one.mean()) > 0.2
    assert abs(z_score((few - LOG_P).exp(), 1.6)) > 5.5  # a factor of 1.6 is told apart


def test_bounds_of_simulated_data_close_in_from_both_sides():
    """200 simulated rows: log p(x) lies between the means of the bounds, and the gap falls with the temperatures."""
    model, gaps = oracle(2), []
    exact = stats.multivariate_normal(BIAS, [[1 + S2, 2], [2, 4 + S2]])
    for steps in (2, 8, 40):
        found = bidirectional(model, rows(200), Annealing(steps, 1, 3), seed=2)
        log_p = exact.logpdf(simulated(model, rows(200), seed=2).x.numpy())
        assert found.n == 200
        assert found.lower - 4 * found.se < log_p.mean() < found.upper + 4 * found.se
        assert found.gap == pytest.approx(found.upper - found.lower)
        gaps.append(found.gap)
    assert gaps[0] > 2 * gaps[1] > 6 * gaps[2] > 0


def test_bounds_are_right_in_mean_on_one_example(monkeypatch):
    """200 runs on the oracle's x: the lower bound by chains from the prior, the upper by chains from the posterior.

    Each mean is on its side of log p(x) within 4 of its standard errors and near it; exp of minus the upper bound is
    unbiased for 1 / p(x) (|z| < 5.5 fails in 4 of 10^8 tests).
    """
    model = oracle()
    lower = annealed(model, rows(200), Annealing(30, 1, 4), seed=3).log_px
    precision = 1 + 5 / S2
    mean = (WEIGHT[0] * (X[0] - BIAS[0]) + WEIGHT[1] * (X[1] - BIAS[1])) / S2 / precision
    torch.manual_seed(1)
    path = module._Path(model, lb.Batch(rows(200).x), Annealing(30, 1, 4))
    z = mean + torch.randn(1, 200, 1) / math.sqrt(precision)
    sizes = torch.full((30,), 0.2, dtype=torch.float64)
    with torch.no_grad():
        upper = -module._backward(path, z, sizes)[0]
    assert z_score(lower, LOG_P) < 4
    assert z_score(upper, LOG_P) > -4
    assert float(upper.mean() - lower.mean()) < 0.4
    assert abs(z_score((LOG_P - upper).exp(), 1.0)) < 5.5
    assert abs(z_score((lower - LOG_P).exp(), 1.0)) < 5.5


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_a_move_leaves_its_density_as_it_was(beta):
    """20,000 exact draws of f_beta after three moves, by Kolmogorov-Smirnov: false-fail rate 1e-7.

    As a control, moves of this size that are all accepted are noticed.
    """
    model = oracle()
    precision = 1 + beta * 5 / S2
    mean = beta * (WEIGHT[0] * (X[0] - BIAS[0]) + WEIGHT[1] * (X[1] - BIAS[1])) / S2 / precision
    torch.manual_seed(5)
    start = mean + torch.randn(1, 20_000, 1) / math.sqrt(precision)
    path = module._Path(model, lb.Batch(rows(20_000).x), Annealing(1, 1, 3))

    def p_value(z):
        return stats.kstest(((z.flatten().double() - mean) * math.sqrt(precision)).numpy(), "norm").pvalue

    size = 1.2 / math.sqrt(precision)
    with torch.no_grad():
        z, shares = start, []
        for _ in range(3):
            z, accepted, parts = path.move(z, beta, size)
            shares.append(float(accepted))
        for found, expected in zip(parts, path.log_densities(z)[1:], strict=True):
            torch.testing.assert_close(found, expected)
    assert 0.5 < min(shares) < max(shares) < 0.99
    assert float((z != start).double().mean()) > 0.5
    assert p_value(z) > 1e-7
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "rand", lambda shape, **how: torch.zeros(shape, **how))
        for _ in range(3):
            start, _, _ = path.move(start, beta, size)
    assert p_value(start) < 1e-7


def test_one_example_has_no_spread_of_its_gap():
    found = bidirectional(oracle(), rows(1), Annealing(2, 2, 2))
    assert found.n == 1
    assert found.se is None


def test_the_curve_of_a_linear_decoder_is_the_known_one():
    """q_beta(z|x) is normal: rate and distortion of each beta in closed form."""
    model = oracle()
    found = rate_distortion(model, rows(90), Annealing(60, 40, 4), seed=6)
    assert found.beta.shape == found.rate.shape == found.distortion.shape == (61,)
    precision = 1 + found.beta * 5 / S2
    pull = (WEIGHT[0] * (X[0] - BIAS[0]) + WEIGHT[1] * (X[1] - BIAS[1])) / S2
    mean, variance = found.beta * pull / precision, 1 / precision
    rate = 0.5 * (variance + mean.square() - 1 - variance.log())
    away = (torch.tensor(X) - torch.tensor(BIAS) - torch.tensor(WEIGHT) * mean[:, None]).square().sum(1)
    distortion = math.log(2 * math.pi * S2) + (away + 5 * variance) / (2 * S2)
    torch.testing.assert_close(found.rate, rate, atol=0.05, rtol=0.03)
    torch.testing.assert_close(found.distortion, distortion, atol=0.25, rtol=0.05)
    assert float(found.rate[0]) == pytest.approx(0, abs=1e-9)
    assert float(found.rate[-1] + found.distortion[-1]) == pytest.approx(-LOG_P, abs=0.05)
    assert set(found.to_json()) == {"n", "beta", "rate", "distortion"}


def test_errors_are_those_of_repeated_runs():
    """The variance of 600 runs with 6 chains against the stated ones: a ratio off by half would need 8 deviations."""
    found = annealed(oracle(2), rows(600), Annealing(12, 6, 3), seed=7)
    assert float(found.log_px.var()) == pytest.approx(float(found.variance.mean()), rel=0.5)
    assert bool(((found.ess >= 1) & (found.ess <= 6)).all())
    assert 0.3 < found.accepted < 1
    alone = annealed(oracle(2), rows(3), Annealing(2, 1, 2))
    assert bool(alone.variance.isnan().all())


def test_annealing_beats_importance_sampling_where_q_is_poor():
    """q = N(1/2, e^-1) is far from the posterior of the linear model at x = (9, 20)."""
    model, far = oracle(), rows(30, [9.0, 20.0])
    exact = float(stats.multivariate_normal(BIAS, [[1 + S2, 2], [2, 4 + S2]]).logpdf([9.0, 20.0]))
    sampled = float(lb.score(model, far, num_samples=100).log_px.mean())
    chains = float(annealed(model, far, Annealing(100, 4, 5), seed=1).log_px.mean())
    assert sampled < exact - 20
    assert exact - 1.5 < chains < exact + 0.3


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


@pytest.mark.parametrize("name", ["vae", "cvae", "vamp", "flow_prior_vae"])
def test_images_labels_and_learned_priors_can_be_annealed(digits, name):
    options = {"pseudo_inputs": 5} if name == "vamp" else {}
    model = getattr(lb.recipes, name)(digits.spec, latent_dim=3, hidden=(7,), **options).build(1)[0]
    data = digits.test.matching(model.spec).take(133)
    settings = Annealing(5, 2, 2)
    model.train()
    first = annealed(model, data, settings, seed=4)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert first.log_px.shape == (133,)
    torch.rand(5)
    assert torch.equal(annealed(model.eval(), data, settings, seed=4).log_px, first.log_px)
    near = lb.score(model, data, num_samples=200).log_px
    assert abs(float((first.log_px - near).mean())) < 3  # an untrained model is easy for both
    assert torch.equal(annealed(model, data.take(100), settings, seed=4, tune=data).log_px,
                       annealed(model, data, settings, seed=4, tune=data).log_px[:100])  # fmt: skip


def test_the_rows_that_are_scored_do_not_tune_the_steps(digits):
    model = lb.recipes.vae(digits.spec, latent_dim=3, hidden=(7,)).build(1)[0]
    data = digits.test.matching(model.spec).take(20)
    other = replace(data, x=1 - data.x)
    alike = [module.step_sizes(model, simulated(model, d, seed=3), Annealing(4, 2, 2), seed=3) for d in (data, other)]
    assert torch.equal(*alike)


def test_missing_cells_are_left_out():
    """Without its second cell, x has the density of the first: N(0.3; 0.1, 1.5)."""
    data = replace(rows(300), mask=torch.tensor([True, False]).expand(300, 2))
    found = annealed(oracle(), data, Annealing(30, 4, 4), seed=2).log_px
    expected = stats.norm(BIAS[0], math.sqrt(1 + S2)).logpdf(X[0])
    assert abs(z_score((found - expected).exp(), 1.0)) < 5.5


def test_data_in_their_own_units_are_scored_in_them():
    table = lb.from_arrays(torch.randn(40, 2) * torch.tensor([10.0, 0.1]), valid_fraction=0.0, test_fraction=0.0)
    model = lb.recipes.linear_vae(table.spec, latent_dim=1).build(0)[0]
    data = table.train.matching(model.spec).take(3)
    own, inside = (annealed(model, data, Annealing(3, 2, 2), units=units).log_px for units in ("data", "model"))
    expected = 0.0 if data.spec.log_scale is None else float(data.spec.log_scale.sum())
    torch.testing.assert_close(inside - own, torch.full((3,), expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("ae", NoDensity, "point"),
        ("gumbel_vae", Incompatible, "simplex values cannot be annealed"),
        ("hyperspherical_vae", Incompatible, "sphere values cannot be annealed"),
        ("joint_vae", Incompatible, "2 latent groups cannot be annealed"),
    ],
)
def test_what_cannot_be_moved_is_refused_by_name(digits, name, error, text):
    model = getattr(lb.recipes, name)(digits.spec).build(0)[0]
    with pytest.raises(error, match=text):
        annealed(model, digits.test.matching(model.spec).take(2))


def test_a_planar_posterior_can_only_be_left(digits):
    model = lb.recipes.vae_nf(digits.spec, latent_dim=2, kind="planar").build(0)[0]
    data = digits.test.matching(model.spec).take(2)
    with pytest.raises(Incompatible, match="Planar cannot score"):
        annealed(model, data, Annealing(2, 1, 1, "posterior"))
    assert annealed(model, data, Annealing(2, 1, 1)).log_px.shape == (2,)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"chains": -2}, {"leapfrogs": True}], ids=str)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(UsageError, match=str(next(iter(bad.values())))):
        Annealing(**bad)


def test_a_rate_is_counted_from_the_prior():
    with pytest.raises(UsageError, match="prior"):
        rate_distortion(oracle(), rows(3), Annealing(start="posterior"))


def test_the_share_of_accepted_moves_is_that_of_the_moves_that_were_made(monkeypatch):
    """Steps of next to nothing are always accepted; at the last temperature no move is made that could count."""
    monkeypatch.setattr(module, "step_sizes", lambda model, rows, how, **_: torch.full((how.steps,), 1e-6))
    assert annealed(oracle(), rows(9), Annealing(2, 3, 1), seed=1).accepted == 1
    assert annealed(oracle(), rows(9), Annealing(1, 3, 1), seed=1).accepted == 0


def test_a_likelihood_that_draws_cannot_decide_about_a_move(digits):
    grey = lb.load_data("digits", binarize="none")
    shape, levels = grey.spec.shape, grey.spec.levels
    network = MLP((2,), shape, hidden=(4,))
    encoder = MLP(shape, (2, 2), hidden=(4,))
    decoder = lb.Conditional(network, Dequantized(shape, levels=levels))
    model = lb.VAE(lb.Encoder([encoder]), [Flat(Normal((2,)), StandardNormal((2,)))], decoder, grey.spec)
    with pytest.raises(Incompatible, match=r"log p\(x\|z\) of Dequantized is a draw"):
        annealed(model, grey.test.matching(grey.spec).take(2), Annealing(2, 1, 1))


def words(texts):
    """Return rows of texts of up to 6 letters, with a vocabulary of two."""
    shares = {"test_fraction": 0.0, "valid_fraction": 0.0}
    return lb.from_sequences(texts, vocabulary="ab", max_length=6, name="words", **shares)


def test_drawn_sequences_have_ends_of_their_own():
    """What is drawn does not end where some row of the data does, and what fills all cells may have been cut off."""
    short, long = words(["a", "b"] * 30), words(["ab" * 3] * 60)
    model = lb.recipes.sequence_vae(short.spec, latent_dim=2, width=8).build(3)[0]
    drawn = simulated(model, short.train, seed=2)
    assert torch.equal(drawn.x, simulated(model, long.train, seed=2).x)
    lengths = (drawn.x < 2).sum(1)
    assert len(lengths.unique()) > 3
    batch = drawn.batch(slice(None))
    end = replace(batch, mask=(batch.x < 2).float())
    z = torch.zeros(1, len(drawn), 2)
    model.eval()  # no symbol is hidden
    with torch.no_grad():
        found, expected = (model.decoder(z).log_prob(b.x, b.mask) for b in (batch, end))
    torch.testing.assert_close(found, expected)
    few = Annealing(3, 2, 2)
    ours, theirs = (bidirectional(model, data.train, few, seed=2) for data in (short, long))
    assert ours == theirs
    assert ours.n == int((lengths < 6).sum()) < 60


def test_bounds_of_simulated_data_are_in_the_units_they_name():
    x = torch.randn(40, 2) * torch.tensor([10.0, 300.0])
    table = lb.from_arrays(x, standardize=True, valid_fraction=0.0, test_fraction=0.0)
    model, few = lb.recipes.linear_vae(table.spec, latent_dim=1).build(0)[0], Annealing(3, 2, 2)
    own, inside = (bidirectional(model, table.train.take(9), few, units=units) for units in ("data", "model"))
    scales = float(table.spec.log_scale.sum())
    assert scales > 5
    assert (inside.lower - own.lower, inside.upper - own.upper) == pytest.approx((scales, scales))
    assert own.gap == pytest.approx(inside.gap)
    assert bidirectional(model, table.train.take(9), few) == own
