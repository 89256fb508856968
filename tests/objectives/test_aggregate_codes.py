"""What compares codes: total correlation, FactorVAE's critic, DIP, MMD, HSIC, against sums in loops and exact laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from regulariser_parts import L, batch, model, outcome, trace

from lowerbound.core.errors import UsageError
from lowerbound.core.types import Batch
from lowerbound.objectives import DIP, ELBO, HSIC, MMD, FactorVAE, TotalCorrelation
from lowerbound.objectives.factor import permuted
from lowerbound.objectives.hsic import d_hsic
from lowerbound.objectives.kernels import make_kernel
from lowerbound.objectives.mmd import unbiased_mmd
from lowerbound.objectives.total_correlation import log_aggregate, stratified


def z_score(draws, expected=0.0):
    """Return (mean - expected) / standard error; |z| < 5.5 fails by chance in 4 of 10^8 tests."""
    return float((draws.mean() - expected) / (draws.std() / len(draws) ** 0.5))


def f64(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# total correlation


def posteriors(rows, dims, seed=4):
    torch.manual_seed(seed)
    return f64(rows, dims), 0.3 + torch.rand(rows, dims, dtype=torch.float64)


def rows_of(count):
    return Batch(torch.zeros(count, 1, dtype=torch.float64))


def test_a_batch_of_all_data_gives_the_aggregate_posterior_exactly():
    (loc, scale), count = posteriors(6, 2), 6
    z = loc + scale * f64(3, 6, 2)
    joint, marginals = log_aggregate(trace(loc, scale, z).latents[0], stratified(rows_of(count), count))
    for k, i in itertools.product(range(3), range(6)):
        each = torch.distributions.Normal(loc, scale).log_prob(z[k, i]).exp()  # [6, 2]
        assert float(joint[k, i]) == pytest.approx(math.log(each.prod(1).mean()), rel=1e-12)
        assert float(marginals[k, i]) == pytest.approx(float(each.mean(0).log().sum()), rel=1e-12)


def test_over_all_batches_with_its_example_the_estimate_of_the_aggregate_is_unbiased():
    (loc, scale), count, size = posteriors(6, 2), 6, 3
    z, found = f64(1, 1, 2), []
    for others in itertools.combinations(range(1, count), size - 1):
        rows = [0, *others]
        latent = trace(loc[rows], scale[rows], z.expand(1, size, 2)).latents[0]
        found.append(log_aggregate(latent, stratified(rows_of(size), count))[0][0, 0].exp())
    exact = torch.distributions.Normal(loc, scale).log_prob(z[0]).sum(-1).exp().mean()
    torch.testing.assert_close(torch.stack(found).mean(), exact, rtol=1e-12, atol=0.0)
    each = torch.distributions.Normal(loc, scale).log_prob(z[0]).sum(-1).exp()
    weighted = (each[0] + (size - 1) * each[1:].mean()) / (count * size)  # minibatch-weighted sampling, on average
    assert abs(float(weighted / exact) - 1) > 0.5


def test_row_weights_weigh_the_posteriors_of_the_aggregate():
    (loc, scale), weight = posteriors(4, 2), torch.tensor([0.5, 1.5, 0.2, 1.8], dtype=torch.float64)
    z = f64(1, 4, 2)
    given = Batch(torch.zeros(4, 1, dtype=torch.float64), weight=weight)
    joint, _ = log_aggregate(trace(loc, scale, z).latents[0], stratified(given, 4))
    each = torch.distributions.Normal(loc, scale).log_prob(z[0][:, None]).sum(-1).exp()
    torch.testing.assert_close(joint[0], (each @ weight / 4).log())


def gaussian_aggregate(rows=1500, seed=3):
    """Return posteriors N(mu_n, s^2 I) whose aggregate is close to a normal, and its exact total correlation.

    mu is normal, and moved and turned so that its mean and covariance are exactly those wanted.
    """
    torch.manual_seed(seed)
    wanted = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.2, -0.3], [0.2, -0.3, 0.9]], dtype=torch.float64)
    scale = 0.6
    raw = f64(rows, 3)
    raw = raw - raw.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T @ raw / rows), raw.T, upper=False).T
    loc = white @ torch.linalg.cholesky(wanted - scale**2 * torch.eye(3, dtype=torch.float64)).T
    exact = 0.5 * float(wanted.diagonal().log().sum() - torch.logdet(wanted))
    return loc, torch.full_like(loc, scale), exact, 0.5 * float(torch.logdet(wanted)) - 3 * math.log(scale)


def test_total_correlation_and_information_of_a_normal_aggregate():
    loc, scale, tc, mi = gaussian_aggregate()
    z = loc + scale * f64(*loc.shape)
    latent = trace(loc, scale, z[None]).latents[0]
    joint, marginals = log_aggregate(latent, stratified(rows_of(len(loc)), len(loc)))
    # 1500 codes: the standard errors are .01 and .03, and the aggregate is a mixture close to the normal
    assert float((joint - marginals).mean()) == pytest.approx(tc, abs=0.06)
    assert float((latent.log_q - joint).mean()) == pytest.approx(mi, abs=0.15)


def test_in_small_batches_the_terms_are_biased_as_stated():
    loc, scale, tc, mi = gaussian_aggregate()
    found = []
    for _ in range(400):
        rows = torch.randperm(len(loc))[:16]
        latent = trace(loc[rows], scale[rows], (loc[rows] + scale[rows] * f64(16, 3))[None]).latents[0]
        joint, marginals = log_aggregate(latent, stratified(rows_of(16), len(loc)))
        found.append([float((latent.log_q - joint).mean()), float((joint - marginals).mean())])
    mean_mi, mean_tc = np.mean(found, 0)
    # about +.2 and -.05, the standard errors .02 and .009: more than 5 of them from 0, by chance in 3 of 10^7 tests
    assert 0.0 < mean_mi - mi < 0.4  # the log of an unbiased estimate is too low on average, so I is too high
    assert -0.2 < mean_tc - tc < 0.0


def test_the_weights_of_the_three_terms_enter_the_loss():
    of, given = model(), batch()
    made = outcome(TotalCorrelation(0.5, 3.0, 2.0, num_samples=2), of, given)
    mi, tc, dim_kl = (made.terms[name] for name in ("mi_estimate", "tc_estimate", "dim_kl_estimate"))
    expected = made.terms["distortion"] + 0.5 * mi + 3 * tc + 2 * dim_kl
    torch.testing.assert_close(made.losses["model"], expected.mean())
    sampled = made.trace.mean(made.trace.latents[0].log_q - made.trace.latents[0].log_p)
    torch.testing.assert_close(mi + tc + dim_kl, sampled)


def test_without_a_known_size_of_the_data_there_is_no_estimate():
    of = model()
    of.spec = None
    with pytest.raises(UsageError, match="does not know its data"):
        outcome(TotalCorrelation(), of, batch())


# FactorVAE


def test_the_critics_loss_cannot_move_the_model():
    of, made = model(), FactorVAE((L,), 5.0, (8,))
    losses = outcome(made, of, batch()).losses
    leaks = torch.autograd.grad(losses["critic"], list(of.parameters()), allow_unused=True, retain_graph=True)
    assert all(leak is None for leak in leaks)
    pulls = torch.autograd.grad(losses["model"], list(made.critic.parameters()), retain_graph=True)
    assert any(bool((pull != 0).any()) for pull in pulls)  # so only `inputs=` keeps the model's loss from the critic
    assert {id(p) for p in made.players(of)["critic"]} == {id(p) for p in made.parameters()}


def test_the_model_pays_gamma_times_the_critics_log_odds():
    of, given, made = model(), batch(weighted=True), FactorVAE((L,), 5.0, (8,))
    found = outcome(made, of, given)
    odds = made.critic(found.trace.latents[0].z[0])
    torch.testing.assert_close(found.losses["model"], given.mean(5 * odds - found.terms["elbo"]))


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_a_trained_critic_knows_the_total_correlation_of_two_normals(rho):
    torch.manual_seed(1)
    made, exact = FactorVAE((2,), hidden=(32, 32)), -0.5 * math.log(1 - rho**2)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)

    def draw(rows):
        one, other = torch.randn(rows), torch.randn(rows)
        return torch.stack([one, rho * one + (1 - rho**2) ** 0.5 * other], 1)

    for _ in range(300):
        optimizer.zero_grad()
        made._critic_loss(draw(1024), None).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(made.critic(draw(20_000)).mean()) == pytest.approx(exact, abs=0.08)


def test_permuted_codes_keep_their_marginals_and_lose_their_dependence():
    one = torch.randn(4000)
    z = torch.stack([one, one, -one], 1)
    apart = permuted(z)
    assert torch.equal(apart.sort(0).values, z.sort(0).values)
    # of independent columns 4000 rows correlate by 1/63: 6 of them are passed by chance in 2 of 10^9 tests
    assert float((torch.corrcoef(apart.T) - torch.eye(3)).abs().max()) < 6 / 63


def test_weighted_rows_reach_the_critic_as_often_as_their_weight():
    made, seen = FactorVAE((2,), hidden=(4,)), []
    made.critic.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(500, 1)
    made._critic_loss(z, torch.tensor([0.4, 1.6]).repeat(500))
    for values in seen:  # 500 draws of share .8: sd .018, and 6 of them
        assert abs(float(values.mean()) - 0.8) < 0.11


# DIP


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["i", "ii"])
def test_dip_reads_numpys_covariance(kind, weighted):
    of, given = model(), batch(weighted=weighted)
    found = outcome(DIP(kind, 3.0, 7.0), of, given)
    q = found.trace.latents[0].q
    weight = None if given.weight is None else given.weight.numpy()
    expected = np.cov(q.mean.detach().numpy().T, aweights=weight, ddof=0)
    if kind == "ii":
        expected = expected + np.diag(np.average(q.variance.detach().numpy(), axis=0, weights=weight))
    np.testing.assert_allclose(DIP(kind).covariance(found.trace, given).detach().numpy(), expected, rtol=1e-12)
    diagonal = np.diag(expected)
    penalty = 3 * ((expected**2).sum() - (diagonal**2).sum()) + 7 * ((diagonal - 1) ** 2).sum()
    plain = outcome(ELBO(), of, given)
    assert found.losses["model"].item() == pytest.approx(penalty + plain.losses["model"].item(), rel=1e-12)


# MMD


def by_hand(name, scale, x, y):
    dims = len(x)
    square = sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))
    if name == "imq":
        return 2 * dims * scale / (2 * dims * scale + square)
    if name == "rbf":
        return math.exp(-square / (2 * dims * scale))
    return math.exp(-sum(abs(float(a) - float(b)) for a, b in zip(x, y, strict=True)) / (dims * scale))


@pytest.mark.parametrize("name", ["imq", "rbf", "laplace"])
def test_mmd_is_that_of_sums_in_loops(name):
    torch.manual_seed(8)
    x, y, scales = f64(5, 3), f64(5, 3), (0.4, 2.0)

    def k(a, b):
        return sum(by_hand(name, s, a, b) for s in scales) / 2

    def expected(share):
        apart = [(i, j) for i in range(5) for j in range(5) if i != j]
        pairs = sum(float(share[i] * share[j]) for i, j in apart)
        within = sum(float(share[i] * share[j]) * k(x[i], x[j]) for i, j in apart) / pairs
        prior = sum(k(y[i], y[j]) for i, j in apart) / 20
        return within + prior - 2 * sum(float(share[i]) * k(x[i], y[j]) for i in range(5) for j in range(5)) / 5

    for share in (torch.full((5,), 0.2).double(), torch.tensor([0.1, 0.4, 0.2, 0.25, 0.05]).double()):
        found = unbiased_mmd(x, y, share, make_kernel(name, scales))
        assert float(found) == pytest.approx(expected(share), rel=1e-10)


def many_mmds(count, mean, scale, rows=6, *, diagonal=False):
    kernel, equal = make_kernel("rbf", (1.0,)), torch.full((rows,), 1 / rows, dtype=torch.float64)
    found = []
    for _ in range(count):
        x, y = mean + scale * f64(rows, 1), f64(rows, 1)
        if diagonal:
            within = kernel(x, x).mean() + kernel(y, y).mean()
            found.append(within - 2 * kernel(x, y).mean())
        else:
            found.append(unbiased_mmd(x, y, equal, kernel))
    return torch.stack(found)


def test_mmd_is_unbiased_for_equal_laws_and_for_different_ones():
    # |z| < 5.5 fails by chance in 4 of 10^8 tests
    torch.manual_seed(9)
    assert abs(z_score(many_mmds(2000, 0.0, 1.0))) < 5.5
    # E exp(-(x - y)^2 / 2) = (1 + v)^(-1/2) exp(-d^2 / (2 (1 + v))) where x - y has mean d and variance v
    exact = 1.5**-0.5 + 3**-0.5 - 2 * 2.25**-0.5 * math.exp(-1 / 4.5)
    assert abs(z_score(many_mmds(2000, 1.0, 0.5), exact)) < 5.5
    assert z_score(many_mmds(2000, 0.0, 1.0, diagonal=True)) > 30  # with i = j it is biased


def test_gradients_of_the_kernels_are_finite_for_equal_codes():
    z = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    for name in ("imq", "rbf", "laplace"):
        found = unbiased_mmd(z, z, torch.full((4,), 0.25).double(), make_kernel(name, (1.0,)))
        assert bool(torch.autograd.grad(found, z)[0].isfinite().all())


@pytest.mark.parametrize(("alpha", "weight"), [(1.0, 4.0), (0.0, 4.0), (0.5, 4.0), (-1.0, 2.5)])
def test_the_weights_of_infovae(alpha, weight):
    of, given = model(), batch(weighted=True)
    made = outcome(MMD(weight, alpha), of, given)
    plain = outcome(ELBO(), of, given)
    each = given.mean(plain.terms["distortion"] + (1 - alpha) * plain.terms["rate"])
    torch.testing.assert_close(made.losses["model"], each + (alpha + weight - 1) * made.terms["mmd"][0])
    assert made.terms["mmd"][0].item() != 0


# HSIC


def grams(count, variables, seed=6):
    torch.manual_seed(seed)
    kernel = make_kernel("rbf", (1.0,))
    return torch.stack([kernel(x, x) for x in f64(variables, count, 1)])


def test_hsic_of_two_variables_is_the_trace_of_centred_grams():
    k, m = grams(5, 2)
    centre = torch.eye(5, dtype=torch.float64) - 0.2
    expected = torch.trace(k @ centre @ m @ centre) / 25
    torch.testing.assert_close(d_hsic(torch.stack([k, m]), torch.full((5,), 0.2).double()), expected)


def test_hsic_of_three_variables_is_that_of_sums_in_loops():
    of, share = grams(4, 3), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    k, s = of.numpy(), share.numpy()
    every = range(4)
    joint = sum(s[i] * s[j] * k[0, i, j] * k[1, i, j] * k[2, i, j] for i in every for j in every)
    apart = math.prod(sum(s[i] * s[j] * k[v, i, j] for i in every for j in every) for v in range(3))
    cross = sum(s[i] * math.prod(sum(s[j] * k[v, i, j] for j in every) for v in range(3)) for i in every)
    assert float(d_hsic(of, share)) == pytest.approx(joint + apart - 2 * cross, rel=1e-10)


def test_hsic_is_zero_for_a_full_grid_and_positive_for_dependence():
    grid = torch.tensor(list(itertools.product([0.0, 1.0, 3.0], [-1.0, 2.0], [0.5, 0.7])), dtype=torch.float64)
    kernel = make_kernel("rbf", (1.0,))

    def of(z):
        columns = z.T[..., None]
        return float(d_hsic(kernel(columns, columns), torch.full((len(z),), 1 / len(z), dtype=torch.float64)))

    assert abs(of(grid)) < 1e-15  # the empirical law is the product of its marginals
    assert of(torch.cat([grid, grid[:1]])) > 1e-5
    assert of(grid[:, :1].expand(-1, 3)) > 0.02


def test_a_row_of_weight_two_counts_like_two_rows():
    z, y = f64(4, L), torch.eye(4, dtype=torch.float64)[:, :2]
    twice, weight = [0, 1, 1, 2, 3], torch.tensor([0.8, 1.6, 0.8, 0.8], dtype=torch.float64)
    flat = torch.ones(4, L, dtype=torch.float64)
    for between in ("labels", "dimensions"):
        made = HSIC(between=between)
        one = made._grams(trace(z, flat, z[None]), Batch(z, y=y))
        other = made._grams(trace(z[twice], flat[[0] * 5], z[twice][None]), Batch(z[twice], y=y[twice]))
        weighted = d_hsic(one, weight / weight.sum())
        torch.testing.assert_close(weighted, d_hsic(other, torch.full((5,), 0.2).double()))


def test_codes_that_say_the_label_cost_and_others_do_not():
    of, given = model(), batch()
    made = outcome(HSIC(9.0), of, given)
    torch.testing.assert_close(made.losses["model"], 9 * made.terms["hsic"][0] - made.terms["elbo"].mean())
    labels = torch.arange(40) % 2
    y, flat = torch.eye(2, dtype=torch.float64)[labels], torch.ones(40, 1, dtype=torch.float64)
    values = {"told": 2.0 * labels.double(), "kept": (torch.arange(40) // 2).double() / 7}
    share, costs = torch.full((40,), 1 / 40, dtype=torch.float64), {}
    for name, z in values.items():
        codes = z[:, None]
        costs[name] = float(d_hsic(HSIC()._grams(trace(codes, flat, codes[None]), Batch(codes, y=y)), share))
    assert abs(costs["kept"]) < 1e-15
    assert costs["told"] > 0.1
