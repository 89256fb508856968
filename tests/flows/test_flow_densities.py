"""Flow posteriors and priors as distributions: integrals on a grid, draws against densities, and who may score what."""

import math

import pytest
import torch
from flow_cases import moved
from torch.func import jacrev

from lowerbound.core.errors import Incompatible
from lowerbound.core.record import describe, rebuild
from lowerbound.core.walk import mode
from lowerbound.families import Normal
from lowerbound.flows.flowed import design
from lowerbound.posteriors import IAF, MAF, Planar, Radial, SplineFlow
from lowerbound.priors import FlowPrior

K, B = 3, 4
POSTERIORS = {
    "IAF": lambda event: IAF(event, steps=2, hidden=(9,), context=3),
    "MAF": lambda event: MAF(event, steps=2, hidden=(9,), context=3),
    "Planar": lambda event: Planar(event, steps=3),
    "Radial": lambda event: Radial(event, steps=3),
    "SplineFlow": lambda event: SplineFlow(event, steps=3, hidden=(9,), context=3, bins=5),
}
PRIORS = {kind: lambda event, kind=kind: FlowPrior(event, kind, 3, (9,)) for kind in ("realnvp", "maf", "spline")}
SCORES_ALL = ("IAF", "MAF", "Radial", "SplineFlow")
every_posterior = pytest.mark.parametrize("name", POSTERIORS)


def noise(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posterior(name, event=(2,), batch=(), seed=0, scale=0.4):
    """Return a flow posterior away from a normal: a weight for every parameter, and a context."""
    family = moved(POSTERIORS[name](event), seed, scale)
    return family(1.5 * scale * noise(*batch, *family.params, seed=seed + 5))


def scored(name, seed=0):
    """Return a 2-D distribution that scores any z."""
    return (
        posterior(name, seed=seed, scale=0.25)
        if name in POSTERIORS
        else moved(PRIORS[name]((2,)), seed, 0.25)(None, None)
    )


GRID = torch.linspace(-8, 8, 481, dtype=torch.float64)
Z = torch.cartesian_prod(GRID, GRID)
CELL = float(GRID[1] - GRID[0]) ** 2


@pytest.mark.parametrize("name", [*SCORES_ALL, *PRIORS])
def test_a_density_integrates_to_one_and_draws_have_it(name):
    """Means of four functions over 40,000 draws are within 6 standard errors of the grid's: false-fail rate 1e-8.

    The same draws must be refused under another flow, or the test could not fail.
    """
    q, other = scored(name), scored(name, seed=1)
    torch.manual_seed(4)
    with torch.no_grad():
        mass, wrong = (d.log_prob(Z).exp() * CELL for d in (q, other))
        assert float(mass.sum()) == pytest.approx(1, abs=2e-4)
        draws = q.sample((40_000,))
        worst = 0.0
        for function in (lambda z: z[:, 0].tanh(), lambda z: z[:, 1].tanh(), lambda z: (2 * z[:, 0] * z[:, 1]).sin(),
                         lambda z: (-z.square().sum(1)).exp()):  # fmt: skip
            seen = function(draws)
            error = float(seen.std()) / math.sqrt(len(seen))
            assert abs(float(seen.mean() - mass @ function(Z))) < 6 * error + 2e-4
            worst = max(worst, abs(float(seen.mean() - wrong @ function(Z))) / error)
    assert worst > 12


@pytest.mark.parametrize("name", ["Planar"])
def test_densities_of_flows_that_score_their_draws_integrate_to_one(name):
    """E_q[r(z) / q(z)] = 1 for a density r that is narrower than q: within 6 standard errors, false-fail rate 1e-8."""
    torch.manual_seed(7)
    with torch.no_grad():
        q = posterior(name)
        z, log_q = q.rsample_and_log_prob((100_000,))
        centre, spread = z.mean(0), 0.5 * z.std(0)
        log_r = (-0.5 * ((z - centre) / spread).square() - spread.log() - 0.5 * math.log(2 * math.pi)).sum(1)
        ratio = (log_r - log_q).exp()
        error = float(ratio.std()) / math.sqrt(len(ratio))
        assert error < 0.02
        assert abs(float(ratio.mean()) - 1) < 6 * error
        assert abs(float((log_r - log_q - 0.2).exp().mean()) - 1) > 6 * error  # a wrong constant is found


@every_posterior
@pytest.mark.parametrize("event", [(1,), (2,), (5,), (2, 3)], ids=str)
def test_the_density_of_a_draw_is_the_change_of_variables(name, event):
    """log q(z) of a draw against base density and a Jacobian by automatic differentiation, the noise given back."""
    q = posterior(name, event, (B,))
    size = math.prod(event)
    torch.manual_seed(6)
    z, log_q = q.rsample_and_log_prob((K,))
    assert z.shape == (K, B, *event)
    assert log_q.shape == (K, B)
    torch.manual_seed(6)
    e = q.base.rsample((K,))
    for k in range(K):
        for b in range(B):
            context, one = q.context[b], e[k, b].flatten()
            jacobian = jacrev(lambda v, c=context: q.flow(v, c)[0])(one)
            loc, scale = q.base.loc[b].flatten(), q.base.scale[b].flatten()
            base = torch.distributions.Normal(loc, scale).log_prob(one).sum()
            expected = base - torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet
            torch.testing.assert_close(log_q[k, b], expected, rtol=0, atol=1e-9)


@every_posterior
def test_who_scores_what(name):
    family = POSTERIORS[name]((5,))
    assert family.rescorable == (name in SCORES_ALL)
    assert not family.factorised
    q = posterior(name, (5,), (B,))
    assert q.elements() is None
    z, log_q = q.rsample_and_log_prob((K,))
    if name in SCORES_ALL:
        torch.testing.assert_close(q.log_prob(z), log_q, rtol=0, atol=1e-7)
        with pytest.raises(Incompatible, match="masked"):
            q.log_prob(z, torch.ones_like(z))
    else:
        with pytest.raises(Incompatible, match="only of what it draws"):
            q.log_prob(z)


@every_posterior
def test_samples_are_the_draws_of_the_same_noise(name):
    q = posterior(name, (5,), (B,))
    values = []
    for draw in (q.sample, q.rsample, lambda shape: q.rsample_and_log_prob(shape)[0]):
        torch.manual_seed(3)
        values.append(draw((K,)).detach())
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)
    torch.testing.assert_close(values[0], values[2], rtol=0, atol=0)


@every_posterior
def test_mode_takes_the_centre_with_its_density(name):
    q = posterior(name, (5,), (B,))
    z, log_q, drawn = mode(0, q, q, (K, B))
    assert not drawn
    assert z.shape == (K, B, 5)
    assert log_q.shape == (K, B)
    torch.testing.assert_close(z[0], q.flow(q.base.mean, q.context)[0])
    if name in SCORES_ALL:
        torch.testing.assert_close(log_q, q.log_prob(z), rtol=0, atol=1e-7)


@every_posterior
def test_the_parameters_move_the_draws_and_their_density(name):
    family = moved(POSTERIORS[name]((5,)))
    params = noise(B, *family.params).requires_grad_()
    z, log_q = family(params).rsample_and_log_prob((K,))
    gradients = torch.autograd.grad(z.square().sum() + log_q.sum(), (params, *family.parameters()))
    assert bool((gradients[0] != 0).any(0).all())
    assert all(bool((g != 0).any() & g.isfinite().all()) for g in gradients)


@every_posterior
def test_a_posterior_starts_near_its_base(name):
    """At a feature of 0 the base is N(0, I); an IAF's gates of 0.88 shrink it, all others leave it."""
    torch.manual_seed(0)
    family = POSTERIORS[name]((5,))
    q = family(torch.zeros(B, *family.params))
    shrink = torch.sigmoid(torch.tensor(2.0)) ** 2 if name == "IAF" else 1.0
    torch.testing.assert_close(q.variance.sqrt(), torch.ones(B, 5) * shrink, rtol=0, atol=0.02)
    torch.testing.assert_close(q.mean, torch.zeros(B, 5), rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20, 40])
def test_the_points_have_the_moments_of_a_standard_normal(size):
    points = design(size)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(points.mean(0), torch.zeros(size, dtype=torch.float64), **close)
    torch.testing.assert_close(points.T @ points / len(points), torch.eye(size, dtype=torch.float64), **close)
    third = torch.einsum("ni,nj,nk->ijk", points, points, points) / len(points)
    torch.testing.assert_close(third, torch.zeros_like(third), **close)


@pytest.mark.parametrize("name", [*POSTERIORS, *PRIORS])
@pytest.mark.parametrize(("size", "near"), [(1, 0.05), (2, 0.15), (5, 0.35)])
def test_mean_and_variance_are_near_those_of_many_draws(name, size, near):
    """They are estimates: within a share of a standard deviation that grows with the dimensions; the same each time."""
    if name in POSTERIORS:
        q = posterior(name, (size,), (B,), scale=0.25)
    else:
        q = moved(PRIORS[name]((size,)), scale=0.25)(None, None)
    torch.manual_seed(2)
    with torch.no_grad():
        draws = q.sample((20_000,))
        assert torch.equal(q.mean, q.mean)
        assert q.mean.shape == q.variance.shape == q.centre.shape == draws.shape[1:]
        assert float(((q.mean - draws.mean(0)) / draws.std(0)).abs().max()) < near + 0.05
        assert float((q.variance.sqrt() / draws.std(0)).log().abs().max()) < 2 * near + 0.05


@pytest.mark.parametrize("kind", PRIORS)
def test_a_prior_has_the_shapes_of_its_event(kind):
    prior = FlowPrior((2, 3), kind, 2, (8,))
    p = prior(None, None)
    z = p.sample((K, B))
    assert z.shape == (K, B, 2, 3)
    assert p.log_prob(z).shape == (K, B)
    assert prior.support == "real"
    assert describe(rebuild(describe(prior))) == describe(prior)


@every_posterior
def test_a_posterior_is_rebuilt_and_half_precision_is_widened(name):
    family = POSTERIORS[name]((2, 3))
    again = rebuild(describe(family))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in family.state_dict().items()}
    z, log_q = family(torch.zeros(B, *family.params, dtype=torch.bfloat16)).rsample_and_log_prob()
    assert z.dtype == log_q.dtype == torch.float32


def test_a_flow_without_steps_of_its_own_would_be_the_normal():
    """With zero parameters a planar posterior is its base, so that its density is that of `Normal`."""
    family = Planar((3,), steps=2)
    normal = 0.5 * noise(B, 2, 3)
    params = torch.cat([normal.flatten(1), torch.zeros(B, family.params[0] - 6, dtype=torch.float64)], 1)
    z, log_q = family(params).rsample_and_log_prob((K,))
    torch.testing.assert_close(log_q, Normal((3,))(normal).log_prob(z))
