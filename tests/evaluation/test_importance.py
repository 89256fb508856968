"""Importance sampling that goes on, its weights' tails, K by tolerance, exact log p(x), and the alarm for leaks."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.evaluation import evaluate, score
from lowerbound.evaluation.exact import exact_log_px, is_linear
from lowerbound.evaluation.floor import binarisation_entropy, leaked, least_nll
from lowerbound.evaluation.importance import Sums
from lowerbound.evaluation.pareto import largest_shape, pareto_shape, tail_size


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


@pytest.fixture(scope="module")
def model(digits):
    return lb.recipes.vae(digits.spec, latent_dim=3, hidden=(7,)).build(1)[0]


def rows_of(model, digits, rows=137):
    return digits.test.matching(model.spec).take(rows)


@pytest.mark.parametrize("steps", [(100, 300, 457), (457,), (200, 457)], ids=str)
def test_sums_that_are_continued_give_the_bytes_of_one_go(model, digits, steps):
    rows, whole = rows_of(model, digits), Sums.empty(137)
    for num_samples in steps:
        found = score(model, rows, num_samples=num_samples, seed=3, sums=whole)
    once = score(model, rows, num_samples=457, seed=3)
    for name, value in vars(found).items():
        assert torch.equal(value, getattr(once, name)), name
    assert whole.samples.unique().tolist() == [457]


def test_an_interrupted_evaluation_goes_on_where_it_stopped(model, digits):
    rows, sums = rows_of(model, digits), Sums.empty(137)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(model, rows, num_samples=200, sums=sums, after_block=stop)
    assert sums.samples.tolist() == [100] * 100 + [0] * 37  # saved within the samples of a block, which may take hours
    calls = []
    found = score(model, rows, num_samples=200, sums=sums, after_block=lambda: calls.append(1))
    assert torch.equal(found.log_px, score(model, rows, num_samples=200).log_px)
    assert len(calls) == 3


def test_what_was_interrupted_while_it_was_added_is_not_continued(model, digits):
    sums = Sums.empty(5)
    drawn = [torch.zeros(100, 5), torch.zeros(100, 6), torch.zeros(100, 5)]  # the second cannot be added
    with pytest.raises(RuntimeError):
        sums.add(*drawn)
    with pytest.raises(UsageError, match="cannot be continued"):
        score(model, rows_of(model, digits).take(5), num_samples=100, sums=sums)


@pytest.mark.parametrize(
    ("sums", "num_samples", "text"),
    [
        (Sums.empty(5), 100, "sums of 5 rows were given for 137"),
        (replace(Sums.empty(137), samples=torch.full((137,), 300)), 200, "300 samples already"),
        (replace(Sums.empty(137), samples=torch.full((137,), 150)), 200, "150 samples cannot be continued"),
    ],
    ids=["rows", "more", "part"],
)
def test_sums_of_something_else_are_refused(model, digits, sums, num_samples, text):
    with pytest.raises(UsageError, match=text):
        score(model, rows_of(model, digits), num_samples=num_samples, sums=sums)


@pytest.mark.parametrize("num_samples", [2, 7, 100, 101, 250, 457])
def test_the_gain_is_over_the_estimates_by_halves_of_the_samples(model, digits, num_samples):
    """The halves are those of each chunk of 100; with constant weights nothing is gained."""
    rows, logs = rows_of(model, digits, 11), []
    with torch.no_grad():
        for chunk, start in enumerate(range(0, num_samples, 100)):
            with lb.evaluation.importance.seeded(7, 5, 0, chunk):
                logs.append(model.eval()(rows.batch(slice(None)), min(100, num_samples - start)).log_w.double())
    halves = zip(*[(part[: (len(part) + 1) // 2], part[(len(part) + 1) // 2 :]) for part in logs], strict=True)
    means = [torch.logsumexp(torch.cat(half), 0) - math.log(sum(map(len, half))) for half in halves]
    found = score(model, rows, num_samples=num_samples, seed=5)
    torch.testing.assert_close(found.gain, found.log_px - (means[0] + means[1]) / 2, rtol=1e-9, atol=1e-9)
    assert not bool((found.gain == 0).any())


@pytest.mark.parametrize("shape", [0.2, 0.6, 0.95])
def test_the_tail_of_pareto_weights_has_their_shape(shape):
    """300 largest of 10,000 draws of a Pareto law, 400 times.

    The estimator's standard deviation is about (1 + shape) / sqrt(310) = 0.07 to 0.11, of the mean of 400 at most
    0.006; its bias, by the prior towards 1/2 of weight 10 / 310, is allowed for. Six deviations: false-fail rate 2e-9.
    """
    draws = stats.genpareto(shape).rvs((10_000, 400), random_state=4)
    largest = torch.from_numpy(draws).log().topk(tail_size(10_000) + 1, 0).values
    found = pareto_shape(largest)
    expected = (300 * shape + 5) / 310
    assert float(found.mean()) == pytest.approx(expected, abs=0.036)
    assert float(found.std()) == pytest.approx((1 + shape) / math.sqrt(310), rel=0.35)
    shifted = pareto_shape(largest[torch.randperm(301)] + 1234.5)  # neither order nor a constant factor matters
    torch.testing.assert_close(shifted, found)


def test_light_tails_are_below_the_limit_and_heavy_ones_above():
    light, heavy = stats.expon.rvs(size=(5000, 1), random_state=1), stats.pareto(1.0).rvs((5000, 1), random_state=1)
    shapes = [
        float(pareto_shape(torch.from_numpy(w).log().topk(tail_size(5000) + 1, 0).values)) for w in (light, heavy)
    ]
    assert shapes[0] < 0.35
    assert shapes[1] > largest_shape(5000) > shapes[0]


def test_equal_weights_have_no_tail_and_few_weights_no_shape():
    assert pareto_shape(torch.full((21, 2), -7.0)).tolist() == [0, 0]
    assert bool(pareto_shape(torch.randn(5, 3)).isnan().all())
    assert bool(pareto_shape(torch.randn(6, 3)).isfinite().all())


def test_rounding_is_no_tail():
    """Of a q that is all but the posterior, log w / 44 nats is known to 1e-7: few values, many of them equal."""
    noise = torch.randn(100, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for spread in (1e-6, 1e-5, 1e-4):
        rounded = (-44 + spread * noise).float().double()
        assert bool((pareto_shape(rounded.topk(21, 0).values) == 0).all())
    for apart in (0.1, 20.0):  # nats, however large the logs are: these are weights of their own
        log_w = torch.linspace(0, apart, 21, dtype=torch.float64)[:, None]
        expected = pareto_shape(log_w)
        torch.testing.assert_close(pareto_shape(log_w - 4e6), expected)
        assert abs(float(expected)) > 0.05
    unlikely = torch.cat([torch.full((15, 1), -torch.inf), torch.arange(6.0)[:, None]])
    assert float(pareto_shape(unlikely)) > 1


def test_the_limit_of_the_shape_is_the_papers():
    assert [round(largest_shape(k), 4) for k in (10, 100, 1000, 2154, 10_000)] == [0, 0.5, 0.6667, 0.7, 0.7]


def test_the_effective_sample_size_is_known_where_the_weights_are():
    """One of K weights is all of the sum: 1; all are equal: K."""
    sums = Sums.empty(2)
    one = torch.full((100, 2), -50.0)
    one[3, 0] = 50.0
    one[:, 1] = 2.0
    sums.add(log_px=one, rate=torch.zeros(100, 2), log_w=one)
    found = lb.evaluation.importance._scores(sums, 100, 0.0)
    torch.testing.assert_close(found.ess, torch.tensor([1.0, 100.0]).double())
    torch.testing.assert_close(found.log_px, torch.tensor([50 - math.log(100), 2.0]).double())
    assert float(found.variance[1]) == pytest.approx(0, abs=1e-12)


def test_samples_are_doubled_until_the_tolerance_is_met(model, digits):
    loose = evaluate(model, digits.test, num_samples=7, tolerance=1.0)
    assert loose.nll.num_samples == 100
    tight = evaluate(model, digits.test, num_samples=7, tolerance=0.004)
    assert tight.nll.num_samples in (400, 800, 1600, 3200, 6400, 12_800)
    assert max(tight.nll.mc_se, abs(tight.nll.bias)) < 0.004 < max(loose.nll.mc_se, abs(loose.nll.bias))
    assert tight == evaluate(model, digits.test, num_samples=tight.nll.num_samples)
    assert not [line for line in tight.warnings if "tolerance" in line]


def test_a_tolerance_that_is_not_met_is_said(model, digits):
    found = evaluate(model, digits.test, tolerance=1e-9, most_samples=200)
    assert found.nll.num_samples == 200
    assert "tolerance of 1e-09 nats is not reached with K = 200" in str(found)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.inf, math.nan])
def test_a_tolerance_must_be_positive(model, digits, tolerance):
    with pytest.raises(UsageError, match="tolerance"):
        evaluate(model, digits.test, tolerance=tolerance)


def linear(latent=2, dims=5, **options):
    """Return an untrained linear model of a table, with a scale that is not 1, and 31 rows of data."""
    x = torch.randn(31, dims, generator=torch.Generator().manual_seed(1)) * 3
    data = lb.from_arrays(x, valid_fraction=0.0, test_fraction=0.0, standardize=False)
    model = lb.recipes.linear_vae(data.spec, latent_dim=latent, **options).build(3)[0].requires_grad_(False)
    with torch.no_grad():
        model.decoder.network.out.bias.copy_(torch.arange(float(dims)))
    return model, data.train


def test_a_linear_model_has_an_exact_log_p():
    model, rows = linear()
    weight, bias = model.decoder.network.out.weight.double(), model.decoder.network.out.bias.double()
    variance = float(model.decoder(torch.zeros(1, 1, 2)).variance.flatten()[0])
    covariance = weight @ weight.T + variance * torch.eye(5)
    expected = stats.multivariate_normal(bias.numpy(), covariance.numpy()).logpdf(rows.x.numpy())
    assert is_linear(model)
    torch.testing.assert_close(exact_log_px(model, rows), torch.from_numpy(expected), rtol=1e-6, atol=1e-6)
    found = evaluate(model, rows, num_samples=300)
    assert found.nll_exact.kind == "exact"
    assert found.nll_exact.value == pytest.approx(-expected.mean(), rel=1e-7)
    assert "nll_exact" in str(found)
    assert found.nll.value == pytest.approx(
        found.nll_exact.value, abs=max(6 * found.nll.mc_se, 3 * abs(found.nll.bias))
    )


def test_missing_cells_are_integrated_out_of_the_exact_log_p():
    model, rows = linear()
    mask = torch.rand(31, 5, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[0] = True
    weight, bias = model.decoder.network.out.weight.double(), model.decoder.network.out.bias.double()
    variance = float(model.decoder(torch.zeros(1, 1, 2)).variance.flatten()[0])
    found = exact_log_px(model, replace(rows, mask=mask, x=torch.where(mask, rows.x, torch.nan)))
    for i, seen in enumerate(mask):
        w, chosen = weight[seen], rows.x[i, seen].double().numpy()
        covariance = (w @ w.T + variance * torch.eye(len(w))).numpy()
        wanted = stats.multivariate_normal(bias[seen].numpy(), covariance).logpdf(chosen) if len(w) else 0.0
        assert float(found[i]) == pytest.approx(float(wanted), rel=1e-7)


@pytest.mark.parametrize("name", ["vae", "cvae", "vamp", "student_vae", "gaussian_vae"])
def test_models_that_are_not_linear_have_none(digits, name):
    model = getattr(lb.recipes, name)(digits.spec).build(0)[0]
    assert not is_linear(model)
    assert exact_log_px(model, digits.test.matching(model.spec).take(3)) is None


def test_hidden_layers_and_variances_of_z_are_not_linear():
    spec = linear()[1].spec
    assert not is_linear(lb.recipes.gaussian_vae(spec, hidden=(3,)).build(0)[0])
    with_variance = lb.recipes.gaussian_vae(spec, hidden=(), variance="network").build(0)[0]
    assert not is_linear(with_variance)
    assert is_linear(lb.recipes.gaussian_vae(spec, hidden=()).build(0)[0])


def tiny(grey, seed=0):
    """Return rows of 0/1 pixels drawn once from grey ones `[N, 1, 1, D]` in 0..255."""
    spec = lb.DataSpec("tiny", tuple(grey.shape[1:]), "image", "unit", len(grey), data_seed=seed, resolution=1 / 255)
    return lb.Dataset(grey, None, spec, "test", scale=255).matching(spec.settle("binary"))


def test_the_entropy_of_binarisation_is_the_sum_over_pixels():
    rows = tiny(torch.tensor([[0, 51, 255], [128, 102, 0]], dtype=torch.uint8)[:, None, None])
    expected = [[stats.bernoulli(g / 255).entropy() for g in row] for row in ((0, 51, 255), (128, 102, 0))]
    torch.testing.assert_close(binarisation_entropy(rows), torch.tensor(expected).double().sum(1))
    assert least_nll(rows) == pytest.approx(math.log(2) + torch.tensor(expected).sum().item() / 2)


def test_rows_that_were_told_raise_the_alarm_and_the_best_honest_model_does_not(digits):
    """log p = 0 is a model that knows the pixels; the mixture of the grey images is the best that does not."""
    rows = digits.test.matching(digits.spec.settle("binary"))
    honest = torch.distributions.Bernoulli(rows.grey.double().flatten(1) / rows.grey_scale, validate_args=False)
    each = honest.log_prob(rows.values().double().flatten(1)[:, None]).nan_to_num(-math.inf)
    best = torch.logsumexp(torch.where(each.isnan(), -math.inf, each).sum(2), 1) - math.log(len(rows))
    assert float(-best.mean()) == pytest.approx(least_nll(rows), abs=0.7)
    assert not leaked(rows, best)
    assert not leaked(rows, best - 10)
    assert leaked(rows, best + 0.2)
    assert leaked(rows, torch.zeros(len(rows)))


def test_only_drawn_pixels_have_a_floor(digits):
    with pytest.raises(UsageError, match="were not drawn from grey ones"):
        least_nll(digits.test)


def test_an_impossible_number_is_said_in_words(digits, monkeypatch):
    """The decoder is given the very pixels that it is to score, as a model does that reads other rows at test time."""
    model = lb.recipes.vae(digits.spec, latent_dim=3, hidden=(7,)).build(1)[0]
    rows = digits.test
    pixels = rows.matching(model.spec).values()
    scored = [0]

    def told(z, y=None):
        start, count = scored[0], len(z) // 100
        scored[0] += count
        return (40 * pixels[start : start + count] - 20).expand(100, -1, -1, -1, -1).flatten(0, 1)

    monkeypatch.setattr(model.decoder.network, "forward", told)
    found = evaluate(model, rows)
    assert "is impossible" in found.warnings[0]
    assert "leaked" in found.warnings[0]
