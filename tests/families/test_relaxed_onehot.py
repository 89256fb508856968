"""One-hot and relaxed variables: sums over classes, integrals over the simplex, torch's own densities, the limit."""

import math

import pytest
import torch
from torch.distributions import RelaxedOneHotCategorical
from torch.distributions import kl_divergence as torch_kl
from torch.distributions.one_hot_categorical import OneHotCategorical as TorchOneHot
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli

from lowerbound.core.errors import UsageError
from lowerbound.core.kl import kl_divergence
from lowerbound.families import OneHot, RelaxedBernoulli, RelaxedCategorical
from lowerbound.priors import RelaxedUniform, UniformOneHot


def test_one_hot_probabilities_moments_and_divergences_are_torchs() -> None:
    logits, other = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    q, p = OneHot((3, 5))(logits), OneHot((3, 5))(other)
    theirs = TorchOneHot(logits=logits)
    x = theirs.sample()
    torch.testing.assert_close(q.log_prob(x), theirs.log_prob(x).sum(-1))
    torch.testing.assert_close(q.mean, theirs.mean)
    torch.testing.assert_close(q.variance, theirs.variance)
    torch.testing.assert_close(q.entropy(), theirs.entropy().sum(-1))
    torch.testing.assert_close(kl_divergence(q, p), torch_kl(theirs, TorchOneHot(logits=other)).sum(-1))
    assert torch.equal(q.centre.argmax(-1), logits.argmax(-1))
    assert torch.equal(q.centre.sum(-1), torch.ones(4, 3, dtype=torch.float64))


def test_the_golden_divergence_from_the_uniform() -> None:
    q = OneHot((3,))(torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64).log())
    p = UniformOneHot((3,)).double()(None, None)
    assert float(kl_divergence(q, p)) == pytest.approx(0.296793736125, rel=1e-10)


def test_one_hot_draws_have_their_probabilities() -> None:
    """|z| < 5.5 of 20,000 draws for 12 shares: false-fail rate 5e-7."""
    q = OneHot((3, 4))(torch.randn(3, 4, dtype=torch.float64))
    draws = q.sample((20_000,))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert float(((draws.mean(0) - q.mean) / (q.variance / 20_000).sqrt()).abs().max()) < 5.5


def test_a_masked_one_hot_vector_counts_nothing() -> None:
    q, x = OneHot((2, 3))(torch.randn(2, 3)), torch.eye(3)[[1, 2]]
    mask = torch.tensor([[1.0], [0.0]]).expand(2, 3)
    torch.testing.assert_close(q.log_prob(torch.where(mask.bool(), x, torch.nan), mask), q.log_share[0, 1])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_concrete_density_is_torchs_and_integrates_to_one(temperature: float) -> None:
    """By the map (s, t) -> simplex of three classes, in logits, where the density falls off exponentially."""
    logits = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    q = RelaxedCategorical((3,), temperature)(logits)
    z = torch.randn(50, 3, dtype=torch.float64).softmax(-1)
    theirs = RelaxedOneHotCategorical(torch.tensor(temperature).double(), logits=logits)
    torch.testing.assert_close(q.log_prob(z), theirs.log_prob(z), rtol=1e-6, atol=1e-6)
    axis = torch.linspace(-25, 25, 801, dtype=torch.float64) / min(temperature, 1)
    s, t = torch.meshgrid(axis, axis, indexing="ij")
    z = torch.stack([s, t, torch.zeros_like(s)], -1).softmax(-1)
    # dz_1 dz_2 = z_1 z_2 z_3 ds dt
    mass = (q.log_prob(z) + z.log().sum(-1)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_binary_concrete_density_is_torchs(temperature: float) -> None:
    logits, y = torch.randn(2, 50, 1, dtype=torch.float64)
    theirs = LogitRelaxedBernoulli(torch.tensor(temperature).double(), logits=logits)
    z = y.sigmoid()
    expected = theirs.log_prob(y) - z.log() - (1 - z).log()
    torch.testing.assert_close(RelaxedBernoulli((1,), temperature)(logits).log_prob(z), expected[:, 0])


def test_the_largest_coordinate_is_a_draw_of_the_classes() -> None:
    """P(z_k largest) = softmax(logits)_k at any temperature (Maddison et al. 2017, proposition 1); |z| < 5.5."""
    logits = torch.tensor([[0.3, -0.5, 0.8], [2.0, 0.0, 0.0]], dtype=torch.float64)
    for temperature in (0.2, 3.0):
        z = RelaxedCategorical((2, 3), temperature)(logits).sample((20_000,))
        shares = torch.nn.functional.one_hot(z.argmax(-1), 3).double().mean(0)
        p = logits.softmax(-1)
        assert float(((shares - p) / (p * (1 - p) / 20_000).sqrt()).abs().max()) < 5.5
        torch.testing.assert_close(z.sum(-1), torch.ones(20_000, 2, dtype=torch.float64))


def test_draws_of_three_classes_have_the_density() -> None:
    """E_q[p(z)/q(z)] = 1 for another density p of the simplex, within 6 standard errors of 200,000 draws."""
    q = RelaxedCategorical((3,), 0.7)(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64))
    p = RelaxedUniform((3,), 1.3).double()(None, None)
    z, log_q = q.rsample_and_log_prob((200_000,))
    ratio = (p.log_prob(z) - log_q).exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))
    wrong = RelaxedCategorical((3,), 0.7)(torch.zeros(3, dtype=torch.float64)).sample((200_000,))
    ratio = (p.log_prob(wrong) - q.log_prob(wrong)).exp()
    assert abs(float(ratio.mean()) - 1) > 6 * float(ratio.std()) / math.sqrt(len(ratio))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_and_temperatures_stay_finite_with_their_gradient(dtype: torch.dtype) -> None:
    """Coordinates that would underflow are kept at the smallest number, inside the open simplex."""
    logits = torch.tensor([[200.0, -200.0, 0.0]], dtype=dtype, requires_grad=True)
    for family in (RelaxedCategorical((3,), 0.1), RelaxedBernoulli((3,), 0.1)):
        z, log_q = family(logits).rsample_and_log_prob((100,))
        assert float(z.detach().min()) > 0
        assert float(z.detach().max()) <= 1
        (gradient,) = torch.autograd.grad(log_q.sum(), logits)
        assert bool(log_q.isfinite().all() & gradient.isfinite().all())


def test_relaxed_priors_and_impossible_arguments() -> None:
    flat = RelaxedUniform((2, 3), 1.0, binary=True)(None, None)
    torch.testing.assert_close(flat.log_prob(torch.rand(4, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    assert RelaxedUniform((2, 3)).support == "simplex"
    with pytest.raises(UsageError, match="temperature"):
        RelaxedCategorical((3,), 0.0)
    with pytest.raises(UsageError, match="temperature"):
        RelaxedUniform((3,), -1.0)
    with pytest.raises(UsageError, match="no classes"):
        OneHot((4, 1))
    with pytest.raises(UsageError, match="in part"):
        RelaxedCategorical((3,))(torch.zeros(3)).log_prob(torch.full((3,), 1 / 3), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-40.0, -12.0, 0.0, 3.0, 12.0, 40.0])
def test_the_mass_beyond_the_numbers_near_an_end_is_that_of_its_cell(logit: float, dtype: torch.dtype) -> None:
    """P(z > 1 - eps) = sigmoid(l - t logit(1 - eps)); the same below eps."""
    eps = torch.finfo(dtype).eps
    q = RelaxedBernoulli((1,), temperature=0.67)(torch.tensor([logit], dtype=dtype))
    for x, sign in ((1 - eps, 1), (eps, -1)):
        mass = float(q.log_prob(torch.tensor([x], dtype=dtype))) + math.log(eps)
        edge = math.log1p(-eps) - math.log(eps)
        exact = -math.log1p(math.exp(-(sign * logit - 0.67 * edge)))
        assert mass == pytest.approx(exact, abs=1e-4 if dtype == torch.float32 else 1e-9)


def test_a_sure_bit_costs_what_the_prior_says_and_no_less() -> None:
    """At logits of 20 and more all draws are 1 - eps; the formula's density there gave a rate below 0, and no bound."""
    p = RelaxedUniform((1,), binary=True)(None, None)
    rates = []
    for logit in (3.0, 6.0, 12.0, 20.0, 30.0, 1000.0):
        z, log_q = RelaxedBernoulli((1,))(torch.full((20_000, 1), logit)).rsample_and_log_prob()
        rates.append(float((log_q - p.log_prob(z)).mean()))
    assert rates == sorted(rates)
    edge = math.log1p(-(2**-23)) + 23 * math.log(2)
    assert rates[-1] == pytest.approx(math.log1p(math.exp(0.5 * edge)), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("apart", [-30.0, -3.0, 0.0, 8.0, 60.0])
def test_the_mass_below_the_smallest_number_is_that_of_its_cell(apart: float, dtype: torch.dtype) -> None:
    """Of two classes z_1 is binary: P(z_1 < c) = sigmoid(t logit(c) - (l_1 - l_2))."""
    least = torch.finfo(dtype).tiny
    q = RelaxedCategorical((2,), temperature=0.1)(torch.tensor([apart, 0.0], dtype=dtype))
    mass = float(q.log_prob(torch.tensor([least, 1.0], dtype=dtype))) + math.log(least)
    exact = -math.log1p(math.exp(apart - 0.1 * math.log(least)))
    assert mass == pytest.approx(exact, abs=1e-4 if dtype == torch.float32 else 1e-9)


def test_draws_have_all_but_one_coordinate_at_the_smallest_number_as_often_as_the_density_says() -> None:
    """|z| < 5.5 of 100,000 draws in each of three corners, where half of all draws are."""
    q, count = RelaxedCategorical((3,), temperature=0.01)(torch.tensor([0.3, -0.5, 0.8])), 100_000
    least = torch.finfo(torch.float32).tiny
    z = q.sample((count,))
    for corner in torch.eye(3):
        place = corner.clamp_min(least)
        mass = math.exp(float(q.log_prob(place)) + 2 * math.log(least))
        share = float((z == place).all(-1).double().mean())
        assert mass > 0.05
        assert abs(share - mass) < 5.5 * math.sqrt(mass * (1 - mass) / count)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.3])
def test_weights_of_draws_at_a_low_temperature_have_the_mean_one(temperature: float) -> None:
    """E_q[p(z)/q(z)] = 1 in float32, where many coordinates underflow, within 6 standard errors of 200,000 draws."""
    q = RelaxedCategorical((4,), temperature)(torch.tensor([2.0, -1.0, 0.0, 1.0]))
    p = RelaxedUniform((4,), 1.5 * temperature)(None, None)
    z, log_q = q.rsample_and_log_prob((200_000,))
    ratio = (p.log_prob(z) - log_q).double().exp()
    assert abs(float(ratio.mean()) - 1) < 6 * float(ratio.std()) / math.sqrt(len(ratio))
    assert float(ratio.std()) < 10


def test_a_sure_class_costs_no_less_than_a_less_sure_one() -> None:
    """At a gap of 60 and more all other coordinates underflow; the formula's density there gave rates far below 0."""
    p, rates = RelaxedUniform((3,))(None, None), []
    for gap in (3.0, 10.0, 30.0, 60.0, 100.0, 1000.0):
        z, log_q = RelaxedCategorical((3,))(torch.tensor([gap, 0.0, 0.0])).rsample_and_log_prob((20_000,))
        rates.append(float((log_q - p.log_prob(z)).mean()))
    assert rates == sorted(rates)
    least = math.log(torch.finfo(torch.float32).tiny)
    assert rates[-1] == pytest.approx(math.log1p(2 * math.exp(-0.5 * least)), rel=1e-4)
