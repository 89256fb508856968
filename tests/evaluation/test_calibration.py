"""Calibration by simulation: an exact posterior passes, a scaled or shifted one fails and is told which way.

An exact posterior fails with a probability of 1e-7, a coverage 6 standard errors away has one of 2e-9.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lowerbound import from_arrays, from_sequences, load_data, recipes
from lowerbound.core.errors import Incompatible, NoDensity, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder
from lowerbound.evaluation.calibration import BINS, DRAWS, _judged, calibrate
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

D, L, NOISE, SIMULATIONS = 4, 2, 0.7, 1500
# orthogonal columns, so that the posterior has independent dimensions; the last value does not depend on z
DECODER = torch.tensor([[1.0, -2.0], [2.0, 1.0], [0.5, 0.0], [0.0, 0.0]])


def posterior():
    """Return the matrix and the variances of the exact p(z|x) = N(matrix x, diag(variances))."""
    precision = torch.eye(L) + DECODER.T @ DECODER / NOISE**2
    return torch.linalg.inv(precision) @ DECODER.T / NOISE**2, precision.diagonal().reciprocal()


def linear(spec, *, scale=1.0, shift=0.0):
    """Return a linear model whose q is the exact posterior, but for `scale` of both sigmas and `shift` of z_0."""
    encoder, decoder = MLP((D,), (2, L), hidden=()), MLP((L,), (D,), hidden=())
    matrix, variances = posterior()
    with torch.no_grad():
        encoder.out.weight.copy_(torch.cat([matrix, torch.zeros(L, D)]))
        moved = torch.tensor([shift, 0.0]) * variances.sqrt()
        encoder.out.bias.copy_(torch.cat([moved, variances.log() + 2 * math.log(scale)]))
        decoder.out.weight.copy_(DECODER)
        decoder.out.bias.zero_()
    group = Flat(Normal((L,)), StandardNormal((L,)))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, FixedNormal((D,), NOISE)), spec)


@pytest.fixture(scope="module")
def data():
    x = torch.randn(90, D, generator=torch.Generator().manual_seed(0))
    return from_arrays(x, kind="points", name="normal")


def run(data, **wrong):
    return calibrate(linear(data.spec, **wrong), data.test, simulations=SIMULATIONS)


def test_an_exact_posterior_passes(data):
    found = run(data)
    assert min(found.p_values) > 1e-7
    assert found.coverage == pytest.approx([0.9, 0.9], abs=6 * math.sqrt(0.09 / SIMULATIONS))
    assert max(abs(z) for z in (*found.shift, *found.spread)) < 6
    assert (found.simulations, found.draws) == (SIMULATIONS, DRAWS)


@pytest.mark.parametrize(("scale", "verdict"), [(0.7, "too narrow"), (1.4, "too wide")])
def test_a_scaled_posterior_fails_and_is_told_which_way(data, scale, verdict):
    found = run(data, scale=scale)
    assert max(found.p_values) < 1e-7
    assert found.verdicts == (verdict, verdict)
    covered = 2 * stats.norm.cdf(stats.norm.ppf(0.95) * scale) - 1
    # 99 draws find the quantiles of q within a few hundredths
    assert found.coverage == pytest.approx([covered, covered], abs=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shifted_dimension_is_found_and_the_other_is_not(data, sign):
    found = run(data, shift=0.5 * sign)
    assert found.p_values[0] < 1e-7 < found.p_values[1]
    assert found.verdicts[0] == "shifted"
    # q lies above z, so z lies below most draws
    assert found.shift[0] * sign < -6


def test_the_statistics_are_those_of_scipy():
    ranks = torch.from_numpy(np.random.default_rng(0).binomial(DRAWS, 0.5, (700, 1)))
    found = _judged(ranks)
    counts = np.bincount(ranks[:, 0] // ((DRAWS + 1) // BINS), minlength=BINS)
    assert found.p_values[0] == pytest.approx(stats.chisquare(counts).pvalue, rel=1e-6)
    uniform = stats.randint(0, DRAWS + 1)
    centred = (ranks[:, 0].numpy() - uniform.mean()) / (DRAWS + 1)
    assert found.shift[0] == pytest.approx(centred.mean() / (uniform.std() / (DRAWS + 1) / math.sqrt(700)))
    assert found.spread[0] < -6
    assert found.verdicts == ("too wide",)


def test_uniform_ranks_give_uniform_p_values():
    """Of 400 exact models the p-values are those of the uniform law; a Kolmogorov-Smirnov test at 1e-7."""
    ranks = torch.from_numpy(np.random.default_rng(1).integers(0, DRAWS + 1, (400, 1000, 1)))
    p_values = [_judged(each).p_values[0] for each in ranks]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-7
    narrower = [_judged(each // 2).p_values[0] for each in ranks[:3]]
    assert max(narrower) < 1e-7


def test_each_row_misses_the_cells_that_it_misses_in_the_data():
    """Here the missing column says nothing of z, so that q stays exact; a model that reads it as 0 would not."""
    x = np.random.default_rng(0).normal(size=(90, D))
    x[::2, 3] = np.nan
    holey = from_arrays(x, missing="keep", name="holes")
    assert min(run(holey).p_values) > 1e-7
    x[::2, 3], x[::2, 0] = 0.0, np.nan
    other = from_arrays(x, missing="keep", name="holes")
    assert max(run(other).p_values) < 1e-7


def test_it_does_not_depend_on_what_ran_before(data):
    model = linear(data.spec)
    state = torch.get_rng_state()
    first = calibrate(model.train(), data.test, simulations=130)
    assert torch.equal(state, torch.get_rng_state())
    assert calibrate(model.eval(), data.test, simulations=130) == first
    assert calibrate(model, data.test, simulations=130, seed=1) != first


def test_what_cannot_be_calibrated_is_refused(data):
    digits = load_data("digits")

    def made(name, **options):
        model = getattr(recipes, name)(digits.spec, latent_dim=2, hidden=(5,), **options).build(0)[0]
        return model, digits.test.matching(model.spec)

    with pytest.raises(NoDensity, match="a Delta posterior is a point"):
        calibrate(*made("ae"))
    with pytest.raises(Incompatible, match=r"discrete \(OneHot\): equal values have no rank"):
        calibrate(*made("m2"))
    with pytest.raises(UsageError, match="by 99 simulations\n  expected 100 or more"):
        calibrate(linear(data.spec), data.test, simulations=99)
    x = np.random.default_rng(0).normal(size=(60, D))
    pairs = from_arrays(x, seen=x + 1, kind="points", name="pairs")
    with pytest.raises(Incompatible, match="the encoder sees other values than a decoder of FixedNormal draws"):
        calibrate(linear(pairs.spec), pairs.test)


def test_drawn_sequences_have_ends_of_their_own():
    """How long the rows of the data are changes nothing; what fills all cells may have been cut off and is left out."""
    shares = {"vocabulary": "ab", "max_length": 6, "test_fraction": 0.0, "valid_fraction": 0.0}
    short, long = (from_sequences(texts, **shares) for texts in (["a", "b"] * 30, ["ab" * 3] * 60))
    model = recipes.sequence_vae(short.spec, latent_dim=2, width=8).build(3)[0]
    ours, theirs = (calibrate(model, data.train, simulations=300) for data in (short, long))
    assert ours == theirs
    assert 100 < ours.simulations < 300
    with pytest.raises(Incompatible, match=r"of 101 simulated sequences \d+ end before"):
        calibrate(model, short.train, simulations=101)
