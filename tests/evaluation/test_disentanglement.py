"""Disentanglement: constructed codes whose scores are known, and each measure computed another way."""

import inspect

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.evaluation.disentanglement import (
    DCI,
    Disentanglement,
    beta_vae_score,
    dci,
    disentanglement,
    factor_vae_score,
    irs,
    mig,
    modularity,
    mutual_information,
    sap,
)

SIZES = (3, 4, 5)
MEASURES = (beta_vae_score, factor_vae_score, mig, modularity, irs, sap)


@pytest.fixture(scope="module")
def factors():
    """Every combination of three factors, 20 times."""
    return torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).repeat(20, 1)


@pytest.fixture(scope="module")
def perfect(factors):
    return factors.double() * torch.tensor([1.0, -2.0, 0.7])


@pytest.fixture(scope="module")
def rough(factors):
    """Five codes that say a little of several factors, none of them constant."""
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    return factors.double() @ mixing + torch.randn(len(factors), 5, generator=generator, dtype=torch.float64)


def test_perfect_codes(factors, perfect):
    found = disentanglement(perfect, factors)
    assert found.mig == pytest.approx(1, abs=1e-12)
    assert found.modularity == pytest.approx(1, abs=1e-12)
    assert found.irs == pytest.approx(1, abs=1e-12)
    assert (found.beta_vae, found.factor_vae) == (1, 1)
    assert found.dci.disentanglement == pytest.approx(1, abs=1e-6)
    assert found.dci.completeness == pytest.approx(1, abs=1e-6)
    assert found.dci.informativeness == 1
    assert found.sap > 0.3
    assert (found.rows, found.dimensions, found.factors) == (1200, 3, 3)


@pytest.mark.parametrize("measure", [*MEASURES, lambda *args: dci(*args).disentanglement])
def test_the_order_of_dimensions_does_not_matter(rough, factors, measure):
    order = torch.tensor([3, 0, 4, 1, 2])
    assert measure(rough[:, order], factors) == pytest.approx(measure(rough, factors), abs=1e-12)


@pytest.mark.parametrize("measure", [mig, modularity, irs, lambda *args: dci(*args).disentanglement])
def test_signs_do_not_matter(perfect, factors, measure):
    assert measure(perfect * torch.tensor([-1, 1, -1]), factors) == pytest.approx(measure(perfect, factors), abs=1e-9)


@pytest.mark.parametrize("measure", [factor_vae_score, mig, modularity, irs, sap])
def test_names_of_values_do_not_matter(rough, factors, measure):
    assert measure(rough, factors * 7 - 3) == measure(rough, factors)


def test_mutual_information_is_that_of_a_table_of_counts(rough, factors):
    found = mutual_information(rough, factors, bins=6)
    for d in range(5):
        column = rough[:, d].numpy()
        edges = np.linspace(column.min(), column.max(), 7)
        binned = np.clip(np.searchsorted(edges, column, side="right"), 1, 6)
        for f in range(3):
            assert float(found[d, f]) == pytest.approx(mutual_info_score(binned, factors[:, f].numpy()), abs=1e-12)


def test_mutual_information_of_a_known_law():
    # z is the value right in 3 of 4 cases, else one of the other two: I = log 3 - H(3/4, 1/8, 1/8).
    v = torch.arange(3).repeat_interleave(8)
    z = (v + torch.tensor([0, 0, 0, 0, 0, 0, 1, 2]).repeat(3)) % 3
    other = torch.arange(2).repeat(12)
    found = mutual_information(torch.stack([z, other], 1).float(), torch.stack([v, other], 1))
    assert float(found[0, 0]) == pytest.approx(np.log(3) - entropy([0.75, 0.125, 0.125]), abs=1e-12)
    assert float(found[1, 1]) == pytest.approx(np.log(2), abs=1e-12)
    assert found[1, 0] == pytest.approx(0, abs=1e-12)


def brute_mig(codes, factors):
    gaps = []
    for f in range(factors.shape[1]):
        v = factors[:, f].numpy()
        shared = []
        for d in range(codes.shape[1]):
            column = codes[:, d].numpy()
            shared.append(mutual_info_score(np.digitize(column, np.histogram(column, 20)[1][:-1]), v))
        shared.sort()
        gaps.append((shared[-1] - shared[-2]) / mutual_info_score(v, v))
    return np.mean(gaps)


def test_mig_against_a_direct_computation(rough, factors):
    assert mig(rough, factors) == pytest.approx(brute_mig(rough, factors), abs=1e-12)


def test_modularity_against_a_direct_computation(rough, factors):
    each = []
    for row in mutual_information(rough, factors).numpy():
        template = np.where(np.arange(3) == row.argmax(), row.max(), 0)
        each.append(1 - ((row - template) ** 2).sum() / (row.max() ** 2 * 2))
    assert modularity(rough, factors) == pytest.approx(np.mean(each), abs=1e-12)


def test_mig_and_modularity_of_two_turned_bits():
    # z = (a + b, a - b) of two fair bits: either says half of each bit, so no dimension is ahead, nor of one factor.
    bits = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    turned = torch.stack([bits.sum(1), bits[:, 0] - bits[:, 1]], 1).float()
    assert mutual_information(turned, bits) == pytest.approx(np.full((2, 2), np.log(2) / 2), abs=1e-12)
    assert mig(turned, bits) == pytest.approx(0, abs=1e-12)
    assert modularity(turned, bits) == pytest.approx(0, abs=1e-12)


def turned(codes, degrees):
    """Return standardised codes whose first two dimensions are turned."""
    a = np.deg2rad(degrees)
    turn = torch.tensor([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return (codes - codes.mean(0)) / codes.std(0) @ turn


@pytest.mark.parametrize("degrees", [10, 20])
def test_a_rotation_entangles_two_of_three_factors(perfect, factors, degrees):
    # The 12 values of either turned dimension lie in bins of their own: both say all of both factors, so that their two
    # gaps are 0. Squared informations (log 3)^2 beside (log 4)^2 take their share of the modularity of two dimensions.
    codes = turned(perfect, degrees)
    info = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]) * torch.tensor(SIZES).log()
    assert torch.allclose(mutual_information(codes, factors), info.double(), atol=1e-6)
    assert mig(codes, factors) == pytest.approx(1 / 3, abs=1e-9)
    assert modularity(codes, factors) == pytest.approx(1 - (np.log(3) / np.log(4)) ** 2 / 3, abs=1e-9)


def test_scores_fall_where_codes_are_turned(perfect, factors):
    scores = []
    for degrees in (0, 25, 45):
        codes = turned(perfect, degrees) + 0.1 * torch.randn(perfect.shape, dtype=torch.float64)
        assert mig(codes, factors) == pytest.approx(brute_mig(codes, factors), abs=1e-12)
        scores.append((mig(codes, factors), dci(codes, factors).disentanglement, irs(codes, factors)))
    assert all(straight > little + 0.1 for straight, little in zip(scores[0], scores[1], strict=True))
    assert scores[0][2] > scores[1][2] + 0.1 > scores[2][2] + 0.15


def test_a_duplicated_code_has_no_gap_and_is_not_complete(perfect, factors):
    twice = torch.cat([perfect, perfect], 1)
    assert mig(twice, factors) == pytest.approx(0, abs=1e-12)
    assert sap(twice, factors) == 0
    assert modularity(twice, factors) == pytest.approx(1, abs=1e-12)
    one, two = dci(perfect, factors), dci(twice, factors)
    # both copies are equally important: completeness is 1 - log 2 / log 6
    assert one.completeness == pytest.approx(1, abs=1e-6)
    assert two.completeness == pytest.approx(1 - np.log(2) / np.log(6), abs=0.1)
    assert two.disentanglement == pytest.approx(1, abs=1e-6)


def test_noise_is_at_chance(factors):
    # Accuracies are over 5,000: 6 standard errors of 1/3 are 0.04, which noise in 1,200 codes can use a little, too.
    noise = torch.randn(len(factors), 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = disentanglement(noise, factors)
    assert found.factor_vae == pytest.approx(1 / 3, abs=0.1)
    assert found.beta_vae == pytest.approx(1 / 3, abs=0.1)
    assert found.mig < 0.03
    assert found.sap < 0.08
    assert found.dci.disentanglement < 0.1
    assert found.dci.informativeness == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.08)
    assert found.irs < 0.5


def test_mig_of_noise_is_its_bias(factors):
    # (bins - 1)(values - 1) / 2N nats on average for each pair.
    noise = torch.rand(len(factors), 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.tensor([19 * (size - 1) / (2 * len(factors)) for size in SIZES])
    assert torch.allclose(mutual_information(noise, factors).mean(0), expected.double(), rtol=0.15)


def test_irs_of_a_line_with_noise():
    # z = v in {0, 1} plus an even grid on [-h, h]: r = 1 - 0.99 h / (1/2 + h) for q = 0.99, up to the grid's step.
    half, steps = 0.2, 1001
    grid = torch.linspace(-half, half, steps, dtype=torch.float64)
    v = torch.arange(2).repeat_interleave(steps)
    other = torch.arange(2).repeat(steps)
    codes = torch.stack([v + grid.repeat(2), torch.zeros(2 * steps)], 1)
    factors = torch.stack([v, other], 1)
    assert irs(codes, factors) == pytest.approx(1 - 0.99 * half / (0.5 + half), abs=2e-3)
    assert irs(codes, factors, quantile=1.0) == pytest.approx(1 - half / (0.5 + half), abs=1e-9)


def test_irs_weighs_dimensions_by_their_reach(factors):
    codes = torch.stack([factors[:, 0].double(), 9 * torch.rand(len(factors), dtype=torch.float64)], 1)
    alone = irs(torch.stack([codes[:, 1], torch.zeros(len(codes))], 1), factors)
    reach = (codes - codes.mean(0)).abs().amax(0)
    assert irs(codes, factors) == pytest.approx(float((reach[0] + reach[1] * alone) / reach.sum()), abs=1e-9)


def test_collapsed_codes_score_nothing(factors):
    still = torch.zeros(len(factors), 2)
    assert (factor_vae_score(still, factors), irs(still, factors)) == (0, 0)
    assert mig(still, factors) == modularity(still, factors) == 0
    faint = 0.01 * factors.double()
    assert factor_vae_score(faint, factors) == 0
    assert factor_vae_score(10 * faint, factors) == 1


def test_factor_vae_score_where_two_factors_share_a_dimension():
    # Dimension 0 moves with both factors, dimension 1 with neither: z_0 moves least for either one, and both factors
    # vote alike, so that half of the tests are right, whichever wins: 6 standard errors over 5,000 are 0.042.
    factors = torch.cartesian_prod(torch.arange(6), torch.arange(6)).repeat(30, 1)
    noise = torch.rand(len(factors), generator=torch.Generator().manual_seed(3))
    codes = torch.stack([factors.sum(1).float(), noise], 1)
    assert factor_vae_score(codes, factors) == pytest.approx(0.5, abs=0.042)
    assert factor_vae_score(factors.float(), factors) == 1


def test_sap_of_one_threshold():
    # Two fair bits with noise s, a dimension each: alone it is right in ndtr(1 / (2 s)) of the rows for its own, and in
    # 1/2 for the other. Of 5,000 held-out rows, 6 standard errors of a difference are 0.05; 1e-8 by chance.
    generator, noise = torch.Generator().manual_seed(4), 0.5
    bits = torch.randint(2, (15000, 2), generator=generator)
    codes = bits + noise * torch.randn(15000, 2, generator=generator)
    assert sap(codes, bits) == pytest.approx(ndtr(0.5 / noise) - 0.5, abs=0.05)


def test_sap_reads_each_dimension_alone():
    # The sum of both dimensions is the factor, which no threshold on one of them can tell.
    generator = torch.Generator().manual_seed(6)
    bits = torch.randint(2, (3000, 2), generator=generator)
    shift = torch.randn(3000, generator=generator) * 50
    together = torch.stack([bits[:, 0] + shift, bits[:, 0] - shift], 1)
    assert sap(together, bits) < 0.1
    assert dci(torch.stack([together.sum(1), bits[:, 1]], 1), bits).informativeness == 1


def test_a_code_that_keeps_planes_is_told_by_beta_vae_alone(factors):
    # Each factor on a circle of its own, in two dimensions: either moves not where the factor does not.
    angle = factors.double() * (2 * np.pi / torch.tensor(SIZES))
    circles = torch.cat([angle.cos(), angle.sin()], 1)
    assert beta_vae_score(circles, factors) == 1
    assert mig(circles, factors) < 0.5


def test_boosted_trees_agree_on_perfect_codes():
    factors = torch.cartesian_prod(torch.arange(2), torch.arange(3)).repeat(20, 1)
    found = dci(factors.double(), factors, by="boosted")
    assert isinstance(found, DCI)
    assert (found.by, found.informativeness) == ("boosted", 1)
    assert found.disentanglement == pytest.approx(1, abs=1e-6)


def test_a_seed_decides(rough, factors):
    first, again, other = (factor_vae_score(rough, factors, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    state = torch.get_rng_state()
    sap(rough, factors, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_as_text_and_as_json():
    found = Disentanglement(0.91, 0.8, 0.123, 0.04, DCI(0.3, 0.2, 0.7, "forest"), 0.6, 0.5, 1200, 10, 5)
    text = str(found)
    assert "MIG             0.123" in text
    assert "chance 0.20" in text
    assert "10 dimensions, 5 factors, 1,200 rows" in text
    assert found.to_json()["dci"] == {
        "disentanglement": 0.3,
        "completeness": 0.2,
        "informativeness": 0.7,
        "by": "forest",
    }


@pytest.mark.parametrize("measure", [*MEASURES, dci, disentanglement])
def test_bad_inputs(measure):
    factors = torch.cartesian_prod(torch.arange(2), torch.arange(3)).repeat(4, 1)
    codes = factors.double()
    with pytest.raises(ShapeError, match="do not go together"):
        measure(codes[:5], factors)
    with pytest.raises(ShapeError, match="1 dimensions"):
        measure(codes[:, :1], factors)
    with pytest.raises(ShapeError, match="1 factors"):
        measure(codes, factors[:, :1])
    with pytest.raises(DataError, match="2 of 24 codes have a value that is not finite"):
        measure(torch.where(torch.arange(24)[:, None] < 2, torch.nan, codes), factors)
    with pytest.raises(DataError, match="factor 1 has the same value in all 24 rows"):
        measure(codes, factors * torch.tensor([1, 0]))


def test_other_bad_inputs(perfect, factors):
    with pytest.raises(UsageError, match="no predictor 'lasso'"):
        inspect.unwrap(dci)(perfect, factors, by="lasso")
    with pytest.raises(UsageError, match="0 bins"):
        mig(perfect, factors, bins=0)
    with pytest.raises(UsageError, match=r"quantile cannot be 1\.5"):
        irs(perfect, factors, quantile=1.5)
    with pytest.raises(DataError, match="4 rows are too few"):
        sap(torch.tensor([[0.0, 1], [1, 0], [1, 1], [0, 0]]), torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]]))
