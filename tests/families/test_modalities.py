"""The likelihood of several modalities is the sum of its parts', with masks; its start is the data's mean."""

import pytest
import torch
from torch import distributions as D

from lowerbound.core.errors import UsageError
from lowerbound.families import Bernoulli, Columns, Modalities, Normal, OneHot

FAMILIES = (Bernoulli((1, 2, 3)), OneHot((4,)), Normal((2,)), Columns((0, 3)))
SIZES = (6, 4, 2, 2)


def drawn():
    """Return parameters of 3 x 5 distributions, and 5 values."""
    torch.manual_seed(2)
    family = Modalities(FAMILIES).double()
    params = torch.randn(3, 5, *family.params).double()
    image, label = torch.randint(0, 2, (5, 6)).double(), torch.eye(4)[[0, 3, 1, 1, 2]].double()
    real, column = torch.randn(5, 2).double(), torch.tensor([[0.3, 2], [1, 0], [-1, 1], [0, 1], [2, 2]]).double()
    return family, params, torch.cat([image, label, real, column], 1)


def test_log_prob_is_the_sum_of_those_of_torch() -> None:
    family, params, x = drawn()
    px, (a, b, c, d) = family(params), params.split([6, 4, 4, 4], -1)
    image = D.Bernoulli(logits=a).log_prob(x[:, :6]).sum(-1)
    label = D.OneHotCategorical(logits=b).log_prob(x[:, 6:10])
    real = D.Normal(c[..., :2], (1e-12 + c[..., 2:].exp()).sqrt()).log_prob(x[:, 10:12]).sum(-1)
    sigma = float((family.families[3].log_variance.detach().exp() + 1e-6).sqrt())
    column = D.Normal(d[..., 0], sigma).log_prob(x[:, 12]) + D.Categorical(logits=d[..., 1:]).log_prob(x[:, 13])
    parts = torch.stack([image, label, real, column])
    torch.testing.assert_close(px.log_prob_parts(x), parts, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(px.log_prob(x), parts.sum(0), rtol=1e-7, atol=1e-7)
    assert px.batch_shape == (3, 5)
    assert px.mean.shape == px.sample().shape == px.centre.shape == (3, 5, 14)


def test_a_missing_modality_counts_nothing_whatever_its_cells_hold() -> None:
    family, params, x = drawn()
    px, mask = family(params), torch.ones_like(x)
    mask[0, 6:10], mask[1, :6], mask[2] = 0, 0, 0
    hidden = torch.where(mask.bool(), x, torch.nan)
    found, whole = px.log_prob_parts(hidden, mask), px.log_prob_parts(x)
    gone = torch.zeros(4, 5, dtype=torch.bool)
    gone[1, 0] = gone[0, 1] = True
    gone[:, 2] = True
    torch.testing.assert_close(found, whole.masked_fill(gone[:, None], 0.0))
    assert bool((found.masked_select(gone[:, None].expand_as(found)) == 0).all())


def test_draws_lie_in_the_support_of_each_part() -> None:
    family, params, _ = drawn()
    image, label, _, column = family(params).sample().split(SIZES, -1)
    assert image.unique().tolist() == [0, 1]
    assert bool((label.sum(-1) == 1).all())
    assert bool(((label == 0) | (label == 1)).all())
    assert set(column[..., 1].unique().tolist()) <= {0, 1, 2}


def test_it_starts_at_the_mean_of_the_observed_data() -> None:
    family, _, x = drawn()
    mask = torch.ones_like(x)
    mask[0, 6:10] = 0
    values, known = family.observations(x, mask)
    mean = (values * known).sum(0) / known.sum(0)
    variance = (known * (values - mean).square()).sum(0) / known.sum(0)
    with torch.no_grad():
        px = family(family.bias_for(mean, variance))
    torch.testing.assert_close(px.mean[:6], x[:, :6].mean(0).clamp(1e-4, 1 - 1e-4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(px.mean[6:10], x[1:, 6:10].mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(px.mean[10:13], x[:, 10:13].mean(0))
    torch.testing.assert_close(px.variance[10:12], x[:, 10:12].var(0, unbiased=False), rtol=1e-5, atol=0)


def test_no_modality_is_refused() -> None:
    with pytest.raises(UsageError, match="no modalities"):
        Modalities(())
