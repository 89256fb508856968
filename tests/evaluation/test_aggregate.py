"""The aggregate posterior against closed forms of linear models, brute force by NumPy, and SciPy's tests.

False-fail rates: estimates are compared within 6 standard errors (2e-9 each); tests must have p-values above 1e-7.
"""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn

from lowerbound import from_arrays, load_data, recipes
from lowerbound.core.errors import DataError, Incompatible, NoDensity, ShapeError, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder
from lowerbound.evaluation import aggregate as module
from lowerbound.evaluation.aggregate import aggregate, draw_codes, draw_prior, holm, match
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import ConditionalPrior, MixtureOfNormals, StandardNormal

D, L = 3, 2
NEVER = 1e-7


def linear(spec, weight, log_variance, bias=(0.0, 0.0), prior=None):
    """Return a VAE with q(z|x) = N(weight x + bias, diag(exp(log_variance))) and a decoder that matters not here."""
    weight = torch.as_tensor(weight)
    latents, values = weight.shape
    encoder, decoder = MLP((values,), (2, latents), hidden=()), MLP((latents,), (values,), hidden=())
    with torch.no_grad():
        encoder.out.weight.copy_(torch.cat([weight, torch.zeros_like(weight)]))
        encoder.out.bias.copy_(torch.cat([torch.as_tensor(bias), torch.as_tensor(log_variance)]))
    group = Flat(Normal((latents,)), prior or StandardNormal((latents,)))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, FixedNormal((values,))), spec)


def points(rows, seed=0, **more):
    x = torch.randn(rows, D, generator=torch.Generator().manual_seed(seed))
    return from_arrays(x, kind="points", name="normal", test_fraction=0.25, **more)


@pytest.fixture(scope="module")
def data():
    return points(6000)


WEIGHT, LOG_VARIANCE = [[1.0, 0.5, 0.0], [0.3, -0.8, 0.6]], [-1.0, -2.0]


def closed_form(weight, log_variance):
    """Return I(x; z), total correlation and KL(q(z_d) || N(0, 1)) for x ~ N(0, I), where q(z) is N(0, C)."""
    a, noise = np.array(weight), np.exp(log_variance)
    c = a @ a.T + np.diag(noise)
    log_det, diagonal = np.linalg.slogdet(c)[1], np.diag(c)
    return (
        0.5 * (log_det - np.log(noise).sum()),
        0.5 * (np.log(diagonal).sum() - log_det),
        0.5 * (diagonal - 1 - np.log(diagonal)),
    )


CORRELATED = [[1.0, 0.5, 0.0], [0.9, 0.6, 0.3]]


@pytest.mark.parametrize("weight", [WEIGHT, CORRELATED])
def test_a_normal_aggregate_has_the_closed_forms(data, weight):
    found = aggregate(linear(data.spec, weight, LOG_VARIANCE), data.train, draws=1000)
    information, correlation, divergence = closed_form(weight, LOG_VARIANCE)
    pairs = (
        (found.mutual_information, information),
        (found.total_correlation, correlation),
        (found.dimension_kl, divergence.sum()),
    )
    for number, exact in pairs:
        # the sample of x has a covariance of its own, which moves q(z): a few parts in sqrt(N)
        assert number.value == pytest.approx(exact, abs=6 * number.se + 0.05)
    assert sum(found.dimension_kl_each) == pytest.approx(found.dimension_kl.value)
    assert found.rows == len(data.train)
    assert found.ceiling == pytest.approx(math.log(len(data.train)))


def test_the_closed_forms_of_another_aggregate_are_told_apart(data):
    """Negative control: the numbers of one model do not pass for those of the other."""
    found = aggregate(linear(data.spec, CORRELATED, LOG_VARIANCE), data.train, draws=1000)
    information, correlation, _ = closed_form(WEIGHT, LOG_VARIANCE)
    assert abs(found.total_correlation.value - correlation) > 6 * found.total_correlation.se + 0.05
    assert abs(found.mutual_information.value - information) > 6 * found.mutual_information.se + 0.05


def covariance_with(correlation, divergence, dims):
    """Return a covariance of this total correlation and sum of KL(N(0, C_dd) || N(0, 1)), in nats."""
    raw = np.random.default_rng(3).normal(size=(dims, dims + 2))
    raw = np.corrcoef(raw)

    def mixed(share):
        return np.eye(dims) + share * (raw - np.eye(dims))

    share = optimize.brentq(lambda s: -0.5 * np.linalg.slogdet(mixed(s))[1] - correlation, 0, 1)
    variance = optimize.brentq(lambda v: dims * 0.5 * (v - 1 - math.log(v)) - divergence, 1, 9)
    return variance * mixed(share)


def test_ten_dimensions_and_sixty_thousand_rows_have_their_closed_forms():
    """I = 8.79, TC = 2.33 and a sum of KL of 0.40 nats, where an aggregate of one batch is off by tens of nats.

    The aggregate of N posteriors knows I less than it is by about e^(I') / N for the I' of single rows, and never more
    than log N = 11: 0.3 nats are allowed for.
    """
    dims, rows = 10, 60_000
    c = covariance_with(2.33, 0.40, dims)
    noise = math.exp((np.linalg.slogdet(c)[1] - 2 * 8.79) / dims)
    weight = np.linalg.cholesky(c - noise * np.eye(dims))
    assert closed_form(weight, np.full(dims, math.log(noise)))[0] == pytest.approx(8.79)
    x = torch.randn(rows, dims, generator=torch.Generator().manual_seed(1))
    data = from_arrays(x, kind="points", name="ten", valid_fraction=0.0, test_fraction=0.0)
    found = aggregate(linear(data.spec, weight, np.full(dims, math.log(noise)), bias=np.zeros(dims)), data.train)
    for number, exact in (
        (found.mutual_information, 8.79),
        (found.total_correlation, 2.33),
        (found.dimension_kl, 0.40),
    ):
        assert number.value == pytest.approx(exact, abs=6 * number.se + 0.3)


@pytest.mark.parametrize("at_once", [1 << 18, 90])
def test_all_numbers_are_those_of_brute_force(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    monkeypatch.setattr(module, "ROWS", 23)
    few = points(60)
    rows, model = few.train, linear(few.spec, WEIGHT, LOG_VARIANCE, bias=(0.5, -1.0))
    found = aggregate(model, rows, draws=10**6, seed=4)
    z = draw_codes(model, rows, seed=4).double().numpy()
    mean = rows.values().double().numpy() @ np.array(WEIGHT).T + [0.5, -1.0]
    each = stats.norm.logpdf(z[:, None], mean, np.exp(0.5 * np.array(LOG_VARIANCE)))  # [draw, row, dimension]
    own = each[np.arange(len(z)), np.arange(len(z))].sum(1)
    joint = np.log(np.exp(each.sum(2)).mean(1))
    single = np.log(np.exp(each).mean(1))
    expected = [(own - joint).mean(), (joint - single.sum(1)).mean(), (single - stats.norm.logpdf(z)).sum(1).mean()]
    numbers = [found.mutual_information, found.total_correlation, found.dimension_kl]
    assert [number.value for number in numbers] == pytest.approx(expected, abs=1e-5)
    assert numbers[0].se == pytest.approx((own - joint).std(ddof=1) / math.sqrt(len(z)), rel=1e-4)
    assert list(found.dimension_kl_each) == pytest.approx((single - stats.norm.logpdf(z)).mean(0), abs=1e-5)


def test_points_that_never_touch_say_which_row_it_is_and_no_more(data):
    """Far-off narrow codes: I(x; z) is log N, at its ceiling, while the true one is far larger."""
    weight = 1e3 * np.array(WEIGHT)
    rows = data.train.take(501)
    found = aggregate(linear(data.spec, weight.astype("float32"), [-8.0, -8.0]), rows, draws=80)
    assert found.mutual_information.value == pytest.approx(math.log(501), abs=1e-4)
    assert found.mutual_information.side == "lower"
    assert closed_form(weight, [-8.0, -8.0])[0] > 3 * math.log(501)


def test_codes_that_do_not_read_x_say_nothing(data):
    found = aggregate(linear(data.spec, np.zeros((L, D), "float32"), [0.0, 0.0]), data.train, draws=70)
    for number in (found.mutual_information, found.total_correlation, found.dimension_kl):
        assert number.value == pytest.approx(0, abs=1e-5)


def test_a_row_without_weight_is_no_part_of_the_aggregate():
    weight = torch.tensor([1.0, 3.0, 0.0, 2.0]).repeat(15)
    few = points(60, weight=weight.numpy(), valid_fraction=0.0)
    model, rows = linear(few.spec, WEIGHT, LOG_VARIANCE), few.train
    kept = rows.rows(rows.weight > 0)
    share = (kept.weight / kept.weight.sum()).double()
    whole, part = aggregate(model, rows, draws=10**6), aggregate(model, kept, draws=10**6)
    assert whole.ceiling == pytest.approx(float(-(share * share.log()).sum()))
    assert part.ceiling == pytest.approx(whole.ceiling)
    assert part.ceiling < math.log(len(kept)) - 0.05


def test_neither_mode_nor_the_callers_generator_matters(data):
    model = linear(data.spec, WEIGHT, LOG_VARIANCE)
    model.encoder.networks[0].body = nn.Dropout(0.5)
    state = torch.get_rng_state()
    found = [aggregate(model.train(mode), data.test, draws=40) for mode in (True, False)]
    assert found[0] == found[1]
    assert torch.equal(state, torch.get_rng_state())
    assert model.train().encoder.networks[0].body.training


def labelled(spec):
    """Return a conditional model whose posterior is its prior: z|y ~ N(4 y - 2, 1), whatever x is."""
    encoder, decoder, family = MLP((D,), (2, L), hidden=(), condition=2), MLP((L,), (D,), hidden=()), Normal((L,))
    table = MLP((2,), family.params, hidden=())
    for network, start in ((encoder, D), (table, 0)):
        nn.init.zeros_(network.out.weight)
        nn.init.zeros_(network.out.bias)
        with torch.no_grad():
            network.out.weight[:L, start] = -2.0
            network.out.weight[:L, start + 1] = 2.0
    group = Flat(family, ConditionalPrior(Conditional(table, Normal((L,)))))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, FixedNormal((D,))), spec)


def test_a_prior_of_each_label_is_compared_with_the_codes_of_its_label():
    few = points(1600, y=np.arange(1600) % 2)
    model = labelled(few.spec)
    found = match(model, few.train, few.test)
    assert found.against == "the prior's distribution function"
    assert min(found.p_values) > NEVER
    assert found.classifier.p_value > NEVER
    about = aggregate(model, few.train, draws=500)
    assert about.dimension_kl.value is None
    assert "depends on y" in about.dimension_kl.reason
    assert about.mutual_information.target == "I(x, y; z)"
    # z tells the label alone: log 2, less where the two normals overlap
    assert about.mutual_information.value == pytest.approx(math.log(2), abs=0.1)
    torch.testing.assert_close(draw_prior(model, few.test)[:, 0].sign().mean(), torch.tensor(0.0), atol=0.3, rtol=0)


def standard(spec, bias=(0.0, 0.0)):
    """Return a model whose aggregate posterior is N(bias, I) if x ~ N(0, I)."""
    return linear(spec, [[0.6, 0.0, 0.0], [0.0, 0.6, 0.5]], [math.log(0.64), math.log(0.39)], bias)


def test_codes_that_follow_the_prior_pass_all_tests(data):
    found = match(standard(data.spec), data.train, data.test.take(600))
    assert min(found.p_values) > NEVER
    assert found.classifier.p_value > NEVER
    assert abs(found.mmd.mmd) < 0.02
    # 1 % by construction; the 99th percentile of 600 codes itself moves by half of that
    assert found.holes < 0.05
    assert (found.rows, found.codes) == (600, len(data.train))


def test_codes_that_do_not_are_caught_by_each(data):
    found = match(standard(data.spec, bias=(0.0, 1.5)), data.train, data.test.take(600))
    assert found.p_values[0] > NEVER > found.p_values[1]
    # the largest distance of N(0, 1) and N(1.5, 1) is 2 Phi(0.75) - 1
    assert found.distances[1] == pytest.approx(2 * stats.norm.cdf(0.75) - 1, abs=0.12)
    assert found.classifier.p_value < NEVER
    assert found.mmd.mmd > 0.1
    assert found.holes > 0.05


def test_distances_and_p_values_are_those_of_scipy(data):
    model = standard(data.spec, bias=(0.1, 0.0))
    found = match(model, data.train.take(100), data.test.take(333), seed=3)
    z = draw_codes(model, data.test.take(333), seed=3).double().numpy()
    tests = [stats.kstest(column, "norm", method="exact") for column in z.T]
    assert list(found.distances) == pytest.approx([test.statistic for test in tests], abs=1e-6)
    expected = holm(torch.tensor([test.pvalue for test in tests], dtype=torch.float64)).tolist()
    assert list(found.p_values) == pytest.approx(expected, rel=1e-6)


def test_a_prior_without_a_distribution_function_is_drawn_from(data):
    prior = MixtureOfNormals((L,), components=3)
    found = match(linear(data.spec, WEIGHT, LOG_VARIANCE, prior=prior), data.train.take(200), data.test.take(200))
    assert found.against == "draws of the prior"
    assert len(found.distances) == L


def test_holm_is_the_step_down_procedure():
    p_values = torch.tensor([0.04, 0.001, 0.2, 0.012, 0.9], dtype=torch.float64)
    adjusted, largest = {}, 0.0
    for rank, place in enumerate(sorted(range(5), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (5 - rank) * float(p_values[place])))
        adjusted[place] = largest
    assert holm(p_values).tolist() == pytest.approx([adjusted[i] for i in range(5)])


def test_what_has_no_aggregate_is_refused(data):
    digits = load_data("digits")
    rows = digits.test
    for name, error, said in (
        ("ae", NoDensity, "a Delta posterior is a point"),
        ("vae_iaf", Incompatible, r"does not split into dimensions \(Flowed\)"),
        ("gmvae", Incompatible, r"does not split into dimensions \(OneHotCategorical\)"),
    ):
        model = getattr(recipes, name)(digits.spec, latent_dim=2, hidden=(5,)).build(0)[0]
        with pytest.raises(error, match=said):
            aggregate(model, rows.matching(model.spec), draws=9)
    with pytest.raises(Incompatible, match=r"discrete \(OneHot\): codes have no distances"):
        match(model, rows.matching(model.spec), rows.matching(model.spec))
    model = linear(data.spec, WEIGHT, LOG_VARIANCE)
    with pytest.raises(UsageError, match="by 1 draws from 1500 rows"):
        aggregate(model, data.test, draws=1)
    with pytest.raises(DataError, match="a sample has 7 rows"):
        match(model, data.train, data.test.take(7))
    with pytest.raises(ShapeError):
        aggregate(model, rows, draws=5)
