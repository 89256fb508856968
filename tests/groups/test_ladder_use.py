"""What several levels are used for: each at its own temperature, some kept and the rest drawn anew, a rate for each."""

import pytest
import torch
from linear_stack import LOW, TOP, A, C, S, T, X, exact_ladder, some_x

from lowerbound.core.errors import UsageError
from lowerbound.core.types import Batch
from lowerbound.core.walk import mode, unscored, upper
from lowerbound.data import from_arrays
from lowerbound.evaluation.units import rate_per_group
from lowerbound.posteriors import PrecisionWeighted

N = 4000


def drawn(source, rows):
    """Return the latents of both levels."""
    with torch.no_grad():
        torch.manual_seed(1)
        return [latent.z[0] for latent in exact_ladder(PrecisionWeighted())(Batch(some_x(rows)), 1, source).latents]


def test_each_level_has_its_own_temperature():
    top, low = drawn(unscored((0.5, 0.0)), N)
    torch.testing.assert_close(low[:, :TOP], A[:TOP] * top)  # at 0 the level is its mean given the one above
    # a standard deviation of n normal draws has relative error 1 / sqrt(2 n): 5 of them, false alarm below 1e-5
    assert bool(((top.std(0) / 0.5 - 1).abs() < 5 / (2 * N) ** 0.5).all())
    same, _ = drawn(unscored((0.5, 1.0)), N)
    assert torch.equal(same, top)


def test_the_levels_above_are_kept_and_those_below_are_drawn_anew():
    kept = drawn(mode, N)
    top, low = drawn(upper(1, mode, unscored(1.0)), N)
    assert torch.equal(top, kept[0])
    spread = (low - torch.nn.functional.pad(top, (0, LOW - TOP)) * A).std(0)
    assert bool(((spread / T - 1).abs() < 5 / (2 * N) ** 0.5).all())  # the prior's, whatever x is
    assert all(torch.equal(a, b) for a, b in zip(drawn(upper(2, mode, unscored(1.0)), N), kept, strict=True))


def test_temperatures_are_checked():
    model = exact_ladder(PrecisionWeighted())
    assert model.sample(3, temperature=(0.0, 1.0), seed=1).shape == (3, X)
    assert torch.equal(model.sample(3, temperature=(0.7, 0.7), seed=1), model.sample(3, temperature=0.7, seed=1))
    with pytest.raises(UsageError, match="3 temperatures were given for 2 latent groups"):
        model.sample(3, temperature=(1.0, 0.5, 1.0))
    with pytest.raises(UsageError, match="the temperature cannot be -1"):
        model.sample(3, temperature=(1.0, -1.0))


def test_each_level_has_a_rate_and_the_tops_is_the_closed_form():
    x = some_x(N)
    data = from_arrays(x.numpy(), kind="table", valid_fraction=0.0, test_fraction=0.0).train
    model = exact_ladder(PrecisionWeighted()).float()
    found = rate_per_group(model, data, seed=3)
    noise = C.square() * T.square() + S**2
    slope = (A * C)[:TOP]
    variance = 1 / (1 + slope.square() / noise[:TOP])
    mean = variance * slope * x[:, :TOP] / noise[:TOP]
    exact = 0.5 * (variance + mean.square() - 1 - variance.log()).sum(-1).mean()
    torch.testing.assert_close(found[0], exact, rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    with torch.no_grad():
        total = torch.cat([model(Batch(x.float()), 1).kl[0] for _ in range(20)])
    se = float(total.std() / len(total) ** 0.5) * 20**0.5  # one draw of each row has 20 times fewer
    assert abs(float(found.sum()) - float(total.mean())) < 5 * se  # false alarm below 1e-5
    assert float(found[1]) > 0.1
