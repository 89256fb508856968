"""Products and mixtures of experts against closed forms, quadrature, and torch's own mixture."""

import math

import pytest
import torch
from torch import distributions as D

from lowerbound.core.errors import UsageError
from lowerbound.families import Normal
from lowerbound.families.normal import DiagonalNormal
from lowerbound.posteriors import MixtureOfExperts, MixtureOfProducts, PrecisionWeighted, ProductOfExperts

L = 2
EVERY = (ProductOfExperts, MixtureOfExperts, MixtureOfProducts)


def features(*seen: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    """Return what networks give for experts, `[B, M, 2 L + 1]` float64, `seen` saying which are observed."""
    there = torch.tensor(seen, dtype=torch.float64)
    drawn = torch.randn(len(seen), there.shape[1], 2 * L, generator=torch.Generator().manual_seed(seed))
    return torch.cat([drawn.double(), there[..., None]], -1)


def expert(params: torch.Tensor, row: int, m: int) -> DiagonalNormal:
    return Normal((L,))(params[row, m, :-1].reshape(2, L))


def test_a_product_of_one_expert_is_its_posterior() -> None:
    params = features((1,), (1,), (1,))
    alone = Normal((L,))(params[:, 0, :-1].reshape(3, 2, L))
    q = ProductOfExperts((L,), 1, prior_expert=False)(params)
    torch.testing.assert_close(q.loc, alone.loc, rtol=1e-12, atol=0)
    torch.testing.assert_close(q.scale, alone.scale, rtol=1e-12, atol=0)
    prior = DiagonalNormal(torch.zeros(3, L).double(), torch.ones(3, L).double(), 1)
    bayes = PrecisionWeighted()(alone, prior)  # with N(0, I) as an expert: the ladder's rule, written another way
    q = ProductOfExperts((L,), 1)(params)
    torch.testing.assert_close(q.loc, bayes.loc, rtol=1e-12, atol=0)
    torch.testing.assert_close(q.scale, bayes.scale, rtol=1e-12, atol=0)


@pytest.mark.parametrize("with_prior", [True, False])
def test_a_product_is_the_normalised_product_of_the_densities_by_quadrature(with_prior: bool) -> None:
    params = features((1, 1, 1), (1, 0, 1))
    q = ProductOfExperts((L,), 3, prior_expert=with_prior)(params)
    line = torch.linspace(-25, 25, 400_001, dtype=torch.float64)
    for row, members in ((0, (0, 1, 2)), (1, (0, 2))):
        experts = [expert(params, row, m) for m in members]
        for d in range(L):
            log_p = sum(D.Normal(e.loc[d], e.scale[d]).log_prob(line) for e in experts)
            log_p = log_p + D.Normal(0.0, 1.0).log_prob(line) if with_prior else log_p
            p = (log_p - log_p.max()).exp()
            p = p / p.sum()
            mean = (p * line).sum()
            assert float(q.loc[row, d]) == pytest.approx(float(mean), abs=1e-10)
            assert float(q.variance[row, d]) == pytest.approx(float((p * (line - mean).square()).sum()), abs=1e-10)


@pytest.mark.parametrize("family", EVERY)
def test_with_nothing_observed_it_is_the_prior_whatever_the_experts_say(family) -> None:
    q = family((L,), 3)(features((0, 0, 0), (0, 0, 0)))
    z = torch.randn(4, 2, L).double()
    torch.testing.assert_close(q.log_prob(z), D.Normal(0.0, 1.0).log_prob(z).sum(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", EVERY)
def test_an_expert_whose_data_are_missing_changes_nothing(family) -> None:
    params = features((1, 0, 1))
    changed = params.clone()
    changed[0, 1, :-1] = 7.0
    one, other = family((L,), 3)(params), family((L,), 3)(changed)
    z = torch.randn(4, 1, L).double()
    assert torch.equal(one.log_prob(z), other.log_prob(z))
    there = torch.cat([params[:, :1], params[:, 2:]], 1)  # as if there were no such expert
    torch.testing.assert_close(one.log_prob(z), family((L,), 2)(there).log_prob(z), rtol=1e-12, atol=1e-12)


def mixture_of(parts: list[DiagonalNormal]) -> D.MixtureSameFamily:
    loc, scale = (torch.stack([getattr(p, name) for p in parts]) for name in ("loc", "scale"))
    return D.MixtureSameFamily(D.Categorical(torch.ones(len(parts)).double()), D.Independent(D.Normal(loc, scale), 1))


def test_the_density_of_a_mixture_of_experts_is_that_of_torch() -> None:
    params = features((1, 1, 1), (0, 1, 1))
    q, z = MixtureOfExperts((L,), 3)(params), 2 * torch.randn(5, 2, L).double()
    for row, members in ((0, (0, 1, 2)), (1, (1, 2))):
        wanted = mixture_of([expert(params, row, m) for m in members])
        torch.testing.assert_close(q.log_prob(z)[:, row], wanted.log_prob(z[:, row]), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(q.mean[row], wanted.mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(q.variance[row], wanted.variance, rtol=1e-10, atol=1e-10)


def test_a_mixture_of_products_has_one_for_each_set_of_those_observed() -> None:
    params = features((1, 1, 1), (1, 0, 1))
    q, z = MixtureOfProducts((L,), 3)(params), 2 * torch.randn(5, 2, L).double()
    for row, sets in (
        (0, [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]),
        (1, [(0,), (2,), (0, 2)]),
    ):
        parts = []
        for members in sets:
            precision = sum(expert(params, row, m).variance.reciprocal() for m in members)
            mean = sum(expert(params, row, m).loc / expert(params, row, m).variance for m in members) / precision
            parts.append(DiagonalNormal(mean, precision.rsqrt(), 1))
        torch.testing.assert_close(q.log_prob(z)[:, row], mixture_of(parts).log_prob(z[:, row]), rtol=1e-9, atol=1e-9)


def test_each_observed_expert_gets_its_share_of_the_draws() -> None:
    q = MixtureOfExperts((L,), 3)(features((1, 1, 1), (1, 0, 1), (0, 0, 1), (0, 0, 0)))
    for count in (6, 7, 60):
        for row, members in enumerate(((0, 1, 2), (0, 2), (2,), (3,))):
            drawn = torch.bincount(q.strata(count)[:, row], minlength=4).tolist()
            exact = count / len(members)
            assert all(math.floor(exact) <= drawn[m] <= math.ceil(exact) for m in members)
            assert sum(drawn) == sum(drawn[m] for m in members) == count


def test_fewer_draws_than_experts_take_each_equally_often() -> None:
    """20,000 draws of 2 of 3, each expected in 2/3 of them, and first in 1/3: 5 z-scores below 5.5."""
    q = MixtureOfExperts((L,), 3)(features(*[(1, 1, 1)] * 20_000))
    strata = q.strata(2)
    assert bool((strata[0] != strata[1]).all())
    for m in range(3):
        for found, share in (((strata == m).any(0), 2 / 3), (strata[0] == m, 1 / 3)):
            assert abs(float(found.double().mean()) - share) < 5.5 * math.sqrt(share * (1 - share) / 20_000)


@pytest.mark.parametrize("family", [MixtureOfExperts, MixtureOfProducts])
def test_draws_of_a_mixture_have_its_moments(family) -> None:
    """Means of 30,000 sets of 2 draws: 4 z-scores below 5.5. Draws within a set are dependent, sets are not."""
    q = family((L,), 2)(features((1, 1)).expand(30_000, 2, 2 * L + 1))
    z = q.rsample((2,)).mean(0)
    squares = q.rsample((2,)).square().mean(0)
    for draws, wanted in ((z, q.mean[0]), (squares, q.variance[0] + q.mean[0].square())):
        score = (draws.mean(0) - wanted) / (draws.std(0) / math.sqrt(30_000))
        assert float(score.abs().max()) < 5.5


def test_the_gradient_of_stratified_draws_is_that_of_the_mean() -> None:
    params = features((1, 1, 0)).requires_grad_(True)
    q = MixtureOfExperts((L,), 3)(params)
    gradient = torch.autograd.grad(q.rsample((4,)).mean(), params)[0]
    torch.testing.assert_close(gradient[0, :2, :L], torch.full((2, L), 1 / 4).double())  # 1/2 of each, mean over L
    assert float(gradient[0, 2].abs().max()) == 0


def test_impossible_numbers_of_experts_are_refused() -> None:
    for count in (0, 9):
        with pytest.raises(UsageError, match="1 to 8"):
            MixtureOfProducts((L,), count)
