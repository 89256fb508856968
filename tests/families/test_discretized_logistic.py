"""Rounded logistics and their mixtures, against sums over all levels and extended precision."""

import itertools
import math

import mpmath
import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.families import DiscretizedLogistic, LogisticMixture
from lowerbound.families.discretized_logistic import RoundedLogistic


def levels_of(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.arange(count, dtype=dtype) / (count - 1))[:, None]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    ("loc", "scale"), [(0.0, 0.05), (-0.99, 0.01), (1.3, 0.2), (0.25, 1e-5), (0.123, 1e3), (-50.0, 0.01)]
)
def test_the_levels_sum_to_one(loc: float, scale: float, dtype: torch.dtype, error: float) -> None:
    """Location and scale in the units of the papers, where pixels lie in [-1, 1]."""
    px = RoundedLogistic(
        torch.tensor([(loc + 1) / 2 * 255], dtype=dtype), torch.tensor(scale * 127.5).to(dtype), 255, 1
    )
    total = px.log_prob(levels_of(256, dtype)).double().exp().sum()
    assert float(total) == pytest.approx(1, abs=error)


@pytest.mark.parametrize("level", [0, 1, 100, 254, 255])
def test_no_digits_are_lost_far_in_the_tails(level: int) -> None:
    """sigmoid(a) - sigmoid(b) in 60 digits, where float64 would give 0 - 0 or 1 - 1."""
    loc, scale = 20.3, 0.31
    with mpmath.workdps(400):
        loc_, scale_ = mpmath.mpf(loc), mpmath.mpf(scale)
        below, above = (mpmath.mpf(1) / (1 + mpmath.exp(-(level + d - loc_) / scale_)) for d in (-0.5, 0.5))
        share = (1 if level == 255 else above) - (0 if level == 0 else below)
        exact = float(mpmath.log(share))
    px = RoundedLogistic(*torch.tensor([[loc], [scale]], dtype=torch.float64), 255, 1)
    assert float(px.log_prob(torch.tensor([level / 255], dtype=torch.float64))) == pytest.approx(exact, rel=1e-12)


def test_the_mean_lies_in_the_unit_interval_wherever_the_location_is() -> None:
    family = DiscretizedLogistic((3,))
    for value in (-100.0, 0.0, 0.7, 1.0, 100.0):
        mean = family(torch.full((3,), value)).mean.detach()
        assert float(mean.min()) >= 0
        assert float(mean.max()) <= 1


@pytest.mark.parametrize("scale", ["shared", "network"])
def test_it_learns_the_scale_by_gradient(scale: str) -> None:
    """Maximum likelihood over 2,000 rounded logistic values has the sample's scale, within 6 standard errors."""
    true = DiscretizedLogistic((1,), scale=scale)
    with torch.no_grad():
        x = RoundedLogistic(torch.tensor([100.0]), torch.tensor([9.0]), 255, 1).sample((2000,))
        raw = true.bias_for(torch.tensor([0.5]), torch.tensor([0.3]))
    raw.requires_grad_()
    inputs = [raw, *true.parameters()]
    optimizer = torch.optim.Adam(inputs, lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-true(raw).log_prob(x).mean()).backward()
        optimizer.step()
    px = true(raw.detach())
    assert float(px.scale.detach().squeeze()) == pytest.approx(9.0, abs=6 * 9 / math.sqrt(2000 * 1.43))
    assert float(px.loc.squeeze()) == pytest.approx(100.0, abs=6 * 9 * math.sqrt(3 / 2000))


def colour(levels: int = 4) -> tuple[LogisticMixture, torch.Tensor]:
    family = LogisticMixture((3, 1, 2), components=2, levels=levels)
    return family, torch.randn(5, *family.params, dtype=torch.float64)


def colours(levels: int) -> torch.Tensor:
    """Return all colours `[levels^3, 1, 3, 1, 1]`."""
    every = list(itertools.product(range(levels), repeat=3))
    return torch.tensor(every, dtype=torch.float64)[:, None, :, None, None] / (levels - 1)


def test_the_colours_of_a_pixel_sum_to_one() -> None:
    """64 colours, both pixels of five images; each pixel is scored alone by a mask of the other."""
    family, params = colour()
    x = colours(4).expand(64, 5, 3, 1, 2)
    for pixel in range(2):
        mask = torch.zeros(3, 1, 2)
        mask[..., pixel] = 1
        total = family(params).log_prob(x, mask).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_colours_are_those_of_the_paper_written_out() -> None:
    """Salimans et al. 2017, eq. 2 and 3, pixel by pixel in [-1, 1] units."""
    family, params = colour(6)
    params = params[0]
    x = torch.randint(6, (3, 1, 2)).double() / 5
    expected = 0.0
    for pixel in range(2):
        r, g, b = (2 * x[:, 0, pixel] - 1).tolist()
        shares = params[0, :, 0, pixel].softmax(0).tolist()
        total = 0.0
        for c, share in enumerate(shares):
            own = params[:, c, 0, pixel]
            first, second, third = own[7:10].tanh().tolist()
            means = (2 * own[1:4] - 1).tolist()
            means = [means[0], means[1] + first * r, means[2] + second * r + third * g]
            each = 1.0
            for value, mean, log_variance in zip((r, g, b), means, own[4:7].tolist(), strict=True):
                s = 2 * math.sqrt(3 * (math.exp(log_variance) + (1 / 250) ** 2)) / math.pi
                up = 1.0 if value > 0.99 else 1 / (1 + math.exp(-(value + 0.2 - mean) / s))
                down = 0.0 if value < -0.99 else 1 / (1 + math.exp(-(value - 0.2 - mean) / s))
                each *= up - down
            total += share * each
        expected += math.log(total)
    assert float(family(params).log_prob(x)) == pytest.approx(expected, rel=1e-7)


def test_draws_of_colours_have_their_probabilities() -> None:
    """Chi-squared of 40,000 draws over 27 colours, false-fail rate 1e-7; other slopes are rejected."""
    import scipy.stats

    family, params = LogisticMixture((3, 1, 1), components=2, levels=3), torch.randn(10, 2, 1, 1, dtype=torch.float64)
    draws = family(params).sample((40_000,))
    counts = (draws[:, None] == colours(3)[None, :, 0]).all(-1).all(-1).all(-1).sum(0).numpy()

    def chance(other: torch.Tensor) -> float:
        expected = family(other).log_prob(colours(3)[:, 0]).exp().numpy() * counts.sum()
        return scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue

    assert chance(params) > 1e-7
    other = params.clone()
    other[7:] = 0
    assert chance(other) < 1e-7


def test_masks_of_colours_are_marginals_or_refused() -> None:
    """Without blue, or green and blue, the sum over them is left; without red alone there is no short form."""
    family, params = colour()
    px, x = family(params), colours(4).expand(64, 5, 3, 1, 2)
    for observed in (1, 2):
        mask = torch.zeros(3, 1, 2)
        mask[:observed, :, 0] = 1
        alone = torch.ones(3, 1, 2)
        alone[..., 1] = 0
        whole = px.log_prob(x, alone).exp().reshape(*[4] * 3, 5)
        marginal = whole.sum(tuple(range(observed, 3)), keepdim=True).expand(4, 4, 4, 5).reshape(64, 5)
        torch.testing.assert_close(px.log_prob(x, mask).exp(), marginal)
    mask = torch.ones(3, 1, 2)
    mask[0, 0, 1] = 0
    with pytest.raises(UsageError, match="leave out a channel"):
        px.log_prob(x, mask)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="number of levels"):
        DiscretizedLogistic((2,), levels=1)
    with pytest.raises(UsageError, match="number of components"):
        LogisticMixture((2,), components=0)


def test_a_mixture_of_colours_starts_at_the_data() -> None:
    mean = torch.rand(3, 2, 2, dtype=torch.float64) * 0.8 + 0.1
    family = LogisticMixture((3, 2, 2), levels=16)
    px = family(family.bias_for(mean, torch.full_like(mean, 0.05)))
    torch.testing.assert_close(px.mean, mean)
    assert px.variance.shape == px.sample().shape == (3, 2, 2)
