"""Mixed columns against torch's own distributions, sums over all values, and draws."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Categorical, Normal

from lowerbound.core.errors import LowerboundError, UsageError
from lowerbound.families import Columns
from lowerbound.networks import MLP, ColumnInputs
from lowerbound.networks.columns import width_of

SIZES = (0, 3, 1, 0, 4)
K, B = 5, 7


def family():
    made = Columns(SIZES, (0.01, 0.2)).double()
    with torch.no_grad():
        made.log_variance.copy_(torch.tensor([0.3, -1.0]))
    return made


def params(*lead):
    return torch.randn(*lead, *family().params, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def rows(*lead):
    g = torch.Generator().manual_seed(4)
    parts = [torch.randn(lead, generator=g) if s == 0 else torch.randint(max(s, 2), lead, generator=g) for s in SIZES]
    return torch.stack([p.double() for p in parts], -1)


def test_the_density_is_that_of_torch_column_by_column():
    p, x = params(K, B), rows(B)
    scale = (torch.tensor([0.3, -1.0], dtype=torch.float64).exp() + torch.tensor([0.01, 0.2]).double().square()).sqrt()
    expected = (
        Normal(p[..., 0], scale[0]).log_prob(x[..., 0])
        + Categorical(logits=p[..., 1:4]).log_prob(x[..., 1].long())
        + Bernoulli(logits=p[..., 4]).log_prob(x[..., 2])
        + Normal(p[..., 5], scale[1]).log_prob(x[..., 3])
        + Categorical(logits=p[..., 6:10]).log_prob(x[..., 4].long())
    )
    found = family()(p).log_prob(x)
    assert found.shape == (K, B)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)  # floors are stored in float32


def one_by_one(sizes, p, scale, x):
    """Return log p(x), the mean and the variance of each column, read off one after the other."""
    start, reals, found = 0, iter(scale), []
    for i, size in enumerate(sizes):
        part, value = p[..., start : start + max(size, 1)], x[..., i]
        start += max(size, 1)
        if size > 1:
            likely = part.argmax(-1).to(p)
            found.append((Categorical(logits=part).log_prob(value.long()), likely, torch.full_like(likely, math.nan)))
            continue
        one = Normal(part[..., 0], next(reals)) if size == 0 else Bernoulli(logits=part[..., 0])
        found.append((one.log_prob(value), one.mean, one.variance))
    return [torch.stack(torch.broadcast_tensors(*column), -1) for column in zip(*found, strict=True)]


def inputs_one_by_one(sizes, x, mask):
    parts = [
        (F.one_hot(x[:, i].long(), size) if size > 1 else x[:, i, None]) * mask[:, i, None]
        for i, size in enumerate(sizes)
    ]
    return torch.cat([*parts, mask], 1)


SOME_SIZES = [tuple(torch.randint(6, (9,), generator=torch.Generator().manual_seed(s)).tolist()) for s in range(8)]
SOME_SIZES += [(0, 0), (1, 1), (3, 3, 2), (0,), (1,), (2,), (0, 1, 0, 1), (1, 0, 3, 3, 0, 2, 3)]


def a_table(sizes):
    """Return a family with sigmas of its own, parameters `[K, B, ...]` and rows `[B, D]`."""
    made = Columns(sizes).double()
    torch.nn.init.normal_(made.log_variance)
    x = torch.stack([torch.randn(B) if s == 0 else torch.randint(max(s, 2), (B,)) for s in sizes], -1).double()
    return made, torch.randn(K, B, *made.params, dtype=torch.float64, requires_grad=True), x


@pytest.mark.parametrize("sizes", SOME_SIZES, ids=str)
def test_columns_computed_together_are_those_computed_one_by_one(sizes):
    made, p, x = a_table(sizes)
    px = made(p)
    scale = (made.log_variance.exp() + made.floors.square()).sqrt()
    logs, mean, variance = one_by_one(sizes, p, scale, x)
    torch.testing.assert_close(px._log_prob_elements(x), logs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(px.mean, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(px.variance, variance, rtol=1e-10, atol=1e-12, equal_nan=True)
    assert [tuple(part.shape) for part in px.parts] == [(K, B, max(size, 1)) for size in sizes]
    learned = [p, made.log_variance] if 0 in sizes else [p]
    mask = (torch.rand(B, len(sizes)) < 0.7).double()
    ours = torch.autograd.grad(px.log_prob(x, mask).sum(), learned)
    torch.testing.assert_close(ours, torch.autograd.grad((logs * mask).sum(), learned), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", SOME_SIZES, ids=str)
def test_inputs_and_observations_are_those_made_one_by_one(sizes):
    made, _, x = a_table(sizes)
    mask = (torch.rand(B, len(sizes)) < 0.7).double()
    network = ColumnInputs(MLP((width_of(sizes, masked=True),), (2,), hidden=()), sizes, masked=True).double()
    seen = []
    network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(x, None, mask)
    assert torch.equal(seen[0], inputs_one_by_one(sizes, x, mask))
    values, known = made.observations(x, mask)
    assert torch.equal(values, inputs_one_by_one(sizes, x, torch.ones_like(x))[:, : made.params[0]])
    assert torch.equal(known, torch.cat([mask[:, i, None].expand(B, max(s, 1)) for i, s in enumerate(sizes)], 1))


@pytest.mark.parametrize(("sizes", "discrete"), [((1, 3), True), ((1,), True), ((4,), True), ((1, 0, 3), False)])
def test_columns_are_discrete_if_none_is_real(sizes, discrete):
    made = Columns(sizes)
    assert made.discrete is discrete
    px = made(torch.zeros(made.params))
    assert px.log_prob(torch.zeros(len(sizes))).requires_grad is not discrete
    assert list(made.state_dict()) == ["log_variance"]


def test_discrete_columns_sum_to_one():
    made = Columns((3, 1, 4))
    every = torch.cartesian_prod(torch.arange(3.0), torch.arange(2.0), torch.arange(4.0))
    total = made(torch.randn(*made.params)).log_prob(every).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_masked_cells_count_nothing_whatever_they_hold():
    p, x = params(B), rows(B)
    mask = torch.ones(B, len(SIZES), dtype=torch.float64)
    mask[:, 1] = mask[:, 3] = 0
    wild = x.clone()
    wild[:, 1], wild[:, 3] = 99.0, math.nan
    whole = family()(p)._log_prob_elements(x)
    torch.testing.assert_close(family()(p).log_prob(wild, mask), whole[:, [0, 2, 4]].sum(1))


def test_draws_have_the_probabilities_of_the_density():
    """100,000 draws: each moment within 5.5 standard errors (false-fail rate below 1e-6 for all twelve checks)."""
    torch.manual_seed(5)
    px, n = family().requires_grad_(False)(params()), 100_000
    x = px.sample((n,))
    assert x.shape == (n, len(SIZES))
    for i in (0, 3):
        assert abs(float(x[:, i].mean() - px.mean[i])) < 5.5 * math.sqrt(float(px.variance[i]) / n)
        assert float(x[:, i].var()) == pytest.approx(float(px.variance[i]), rel=5.5 * math.sqrt(2 / n))
    for i, logits in ((1, params()[1:4]), (4, params()[6:10])):
        share = torch.bincount(x[:, i].long(), minlength=len(logits)) / n
        assert bool(((share - logits.softmax(0)).abs() < 5.5 * (0.25 / n) ** 0.5).all())
        assert float(px.mean[i]) == float(logits.argmax())  # the most probable category
    assert abs(float(x[:, 2].mean() - px.mean[2])) < 5.5 * (0.25 / n) ** 0.5


def test_it_starts_at_the_shares_and_moments_of_the_data():
    made, x = family(), rows(4000)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64) < 0.8
    values, known = made.observations(x, mask.double())
    count = known.sum(0)
    mean = (values * known).sum(0) / count
    variance = (values.square() * known).sum(0) / count - mean.square()
    with torch.no_grad():
        px = made(made.bias_for(mean, variance))
    assert float(px.mean[0]) == pytest.approx(float(x[mask[:, 0], 0].mean()))
    assert float(px.variance[3]) == pytest.approx(float(x[mask[:, 3], 3].var(correction=0)), rel=1e-6)
    shares = torch.bincount(x[mask[:, 4], 4].long()) / int(mask[:, 4].sum())
    torch.testing.assert_close(px.parts[4].softmax(-1), shares.double(), rtol=1e-4, atol=1e-6)
    assert float(px.mean[2]) == pytest.approx(float(x[mask[:, 2], 2].mean()))


@pytest.mark.parametrize(("sizes", "floors"), [((), ()), ((0, -1), ()), ((0, 3), (0.1, 0.1)), ((0,), (0.0,))])
def test_impossible_columns_are_refused(sizes, floors):
    with pytest.raises(UsageError, match="columns of sizes"):
        Columns(sizes, floors)


def test_an_encoder_tells_a_missing_cell_from_a_mean_one():
    network = ColumnInputs(MLP((width_of(SIZES, masked=True),), (2,), hidden=()), SIZES, masked=True)
    seen = []
    network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, mask = rows(2).float(), torch.ones(2, len(SIZES))
    mask[1, 1] = mask[1, 3] = 0
    network(x, None, mask)
    assert seen[0].shape == (2, 10 + 5)
    assert seen[0][0, 1:4].tolist() == torch.eye(3)[int(x[0, 1])].tolist()
    assert seen[0][1, 1:4].tolist() == [0, 0, 0]
    assert float(seen[0][1, 5]) == 0
    assert seen[0][:, 10:].tolist() == mask.tolist()


def test_a_condition_and_a_wrong_width_are_checked():
    network = ColumnInputs(MLP((10,), (2,), hidden=(), condition=6), SIZES)
    assert network(rows(3).float(), torch.eye(6)[:3]).shape == (3, 2)
    with pytest.raises(LowerboundError, match="no condition"):
        network(rows(3).float())
    with pytest.raises(LowerboundError, match="shape"):
        network(torch.zeros(3, 4), torch.eye(6)[:3])
