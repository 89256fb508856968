"""Discrete latents that can be enumerated: every bound is a finite sum, so nothing here needs sampling to be exact."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from oracle_parts import f64, set_linear, z_score
from torch import Size, Tensor

import lowerbound as lb
from lowerbound.core.distribution import Distribution
from lowerbound.core.model import Conditional, Encoder, Family, Group
from lowerbound.core.types import Infer
from lowerbound.core.walk import from_prior, observe, replay
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO

PRIOR, Q = f64([0.2, 0.5, 0.3]), f64([0.1, 0.6, 0.3])
RATES = f64([[1.0, 4.0], [2.5, 0.5], [6.0, 1.5]])  # of the two counts, for each class
X = f64([[2.0, 1.0]])
LOG_PX = -3.0775648793349633
BOUNDS = {1: -3.264240176586033, 2: -3.1611012577562283, 3: -3.128858559494359, 4: -3.114216337838021}


class OneHot(Distribution):
    """A class, as a one-hot vector; without a reparameterised draw."""

    def __init__(self, log_p: Tensor) -> None:
        self.log_p = log_p.log_softmax(-1)
        super().__init__(log_p.shape[:-1], log_p.shape[-1:])

    @property
    def mean(self) -> Tensor:
        return self.log_p.exp()

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        p = self.mean.expand(self._extended_shape(Size(sample_shape)))
        index = torch.multinomial(p.reshape(-1, p.shape[-1]), 1).reshape(p.shape[:-1])
        return torch.nn.functional.one_hot(index, p.shape[-1]).to(p)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return value * self.log_p


class PoissonCounts(Distribution):
    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape[:-1], log_rate.shape[-1:])

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return value * self.log_rate - self.log_rate.exp() - torch.lgamma(value + 1)


class Simple(Family):
    support = "real"

    def __init__(self, size: int, make: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.event_shape = self.params = (size,)
        self.make = make

    def forward(self, params: Tensor) -> Distribution:
        return self.make(params)


class Discrete(Group):
    """A class with prior logits that may depend on the state above; the state is all classes so far."""

    def __init__(self, logits: Tensor, above: Tensor | None = None) -> None:
        super().__init__()
        self.posterior_family, self.logits, self.above = Simple(len(logits), OneHot), logits, above

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        return OneHot(self.logits if state is None or self.above is None else self.logits + state @ self.above)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution) -> Distribution:
        return OneHot(feature if state is None or self.above is None else feature - 0.5 * state @ self.above)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        return z if state is None else torch.cat([state, z], -1)


def one_group() -> lb.VAE:
    """q depends on x, and is Q at X."""
    encoder, decoder = MLP((2,), (3,), hidden=()), MLP((3,), (2,), hidden=())
    model = lb.VAE(Encoder([encoder]), [Discrete(PRIOR.log())], Conditional(decoder, Simple(2, PoissonCounts))).double()
    slope = f64([[0.3, -0.1], [0.0, 0.2], [-0.4, 0.1]])
    set_linear(encoder, slope, Q.log() - (slope @ X.T).flatten())
    set_linear(decoder, RATES.log().T, torch.zeros(2))
    return model.requires_grad_(False)


def test_q_and_log_p_of_every_class_are_those_of_the_toy() -> None:
    model = one_group()
    trace = model(lb.Batch(X), 3, replay({0: torch.eye(3, dtype=torch.float64)[:, None]}))
    expected = torch.distributions.Poisson(RATES).log_prob(X).sum(1) + PRIOR.log() - Q.log()
    torch.testing.assert_close(trace.log_w[:, 0], expected)
    torch.testing.assert_close(trace.latents[0].q.mean[0], Q)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4])
def test_every_tuple_of_draws_gives_the_golden_bound(num_samples: int) -> None:
    """All 3^K tuples stand side by side as rows; q's probability of each weighs its value."""
    tuples = f64(list(itertools.product(torch.eye(3).tolist(), repeat=num_samples)))  # [3^K, K, 3]
    model = one_group()
    trace = model(lb.Batch(X.expand(3**num_samples, 2)), num_samples, replay({0: tuples.transpose(0, 1)}))
    chance = (tuples @ Q).prod(1)
    assert float(chance @ trace.log_mean_exp(trace.log_w)) == pytest.approx(BOUNDS[num_samples], abs=1e-12)
    assert float(chance @ trace.mean(trace.log_w)) == pytest.approx(BOUNDS[1], abs=1e-12)
    assert float(chance @ trace.terms()["elbo"]) == pytest.approx(BOUNDS[1], abs=1e-12)
    assert float(chance @ trace.log_mean_exp(trace.log_w).exp()) == pytest.approx(float(f64(LOG_PX).exp()), abs=1e-12)


def enumerated(model: lb.VAE, x: Tensor) -> lb.Trace:
    """Pass every class, with q(class|x) as its share."""
    trace = model(lb.Batch(x), 3, replay({0: torch.eye(3, dtype=torch.float64)[:, None].expand(3, len(x), 3)}))
    return replace(trace, log_share=trace.latents[0].log_q)


def test_unequal_shares_give_log_p_and_the_exact_elbo() -> None:
    x = torch.cat([X, f64([[0.0, 3.0], [7.0, 2.0], [1.0, 0.0]])])
    trace = enumerated(one_group(), x)
    log_px = torch.logsumexp(torch.distributions.Poisson(RATES[:, None]).log_prob(x).sum(2) + PRIOR.log()[:, None], 0)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), log_px)
    assert float(log_px[0]) == pytest.approx(LOG_PX, abs=1e-12)
    elbo = trace.terms()["elbo"]
    assert float(elbo[0]) == pytest.approx(BOUNDS[1], abs=1e-12)
    posterior = (trace.log_w + trace.log_share - log_px).exp()  # Bayes' rule
    divergence = (trace.log_share.exp() * (trace.log_share - posterior.log())).sum(0)
    torch.testing.assert_close(elbo, log_px - divergence)
    terms = trace.terms()
    torch.testing.assert_close(terms["distortion"], -(trace.log_share.exp() * trace.log_px).sum(0))
    torch.testing.assert_close(terms["rate"], (trace.log_share.exp() * (trace.log_share - PRIOR.log()[:, None])).sum(0))
    equal = replace(trace, log_share=torch.full_like(trace.log_share, -float(f64(3.0).log())))
    assert abs(float(equal.log_mean_exp(trace.log_w)[0]) - LOG_PX) > 0.2  # an average that ignores q is wrong
    assert abs(float(equal.mean(trace.log_w)[0]) - BOUNDS[1]) > 0.2


def test_an_observed_class_gives_the_joint() -> None:
    """log p(x, class), with nothing paid for q: the labelled case."""
    z = torch.eye(3, dtype=torch.float64)[2].expand(1, 1, 3)
    trace = one_group()(lb.Batch(X), 1, observe({0: z}))
    joint = torch.distributions.Poisson(RATES[2]).log_prob(X).sum() + PRIOR[2].log()
    assert float(trace.log_w) == pytest.approx(float(joint), abs=1e-12)
    assert float(trace.terms()["elbo"]) == pytest.approx(float(joint), abs=1e-12)
    assert float(trace.latents[0].log_q) == 0


def two_groups() -> lb.VAE:
    """3 classes, and 5 below them whose prior and posterior depend on the class above."""
    above = torch.randn(3, 5, dtype=torch.float64)
    encoders = [MLP((2,), (3,), hidden=()), MLP((2,), (5,), hidden=())]
    groups = [Discrete(PRIOR.log()), Discrete(torch.randn(5, dtype=torch.float64), above)]
    decoder = Conditional(MLP((8,), (2,), hidden=(7,)), Simple(2, PoissonCounts))
    return lb.VAE(Encoder(encoders), groups, decoder).double().requires_grad_(False)


def test_two_groups_are_enumerated_jointly() -> None:
    """log p(x) does not depend on q; the sum over all 15 pairs is written here without the library's walk."""
    model, x = two_groups(), torch.cat([X, f64([[4.0, 0.0]])])
    pairs = list(itertools.product(range(3), range(5)))
    top, low = torch.eye(3, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    zs = {0: torch.stack([top[a] for a, _ in pairs])[:, None], 1: torch.stack([low[b] for _, b in pairs])[:, None]}
    trace = model(lb.Batch(x), 15, replay({i: z.expand(-1, 2, -1) for i, z in zs.items()}))
    trace = replace(trace, log_share=trace.latents[0].log_q + trace.latents[1].log_q)
    torch.testing.assert_close(trace.log_share.exp().sum(0), torch.ones(2, dtype=torch.float64))
    rows = []
    for a, b in pairs:
        log_p = PRIOR.log()[a] + (model.groups[1].logits + model.groups[1].above[a]).log_softmax(0)[b]
        rate = model.decoder.network(torch.cat([top[a], low[b]])[None]).exp()
        rows.append(log_p + torch.distributions.Poisson(rate).log_prob(x).sum(1))
    joint = torch.stack(rows)
    torch.testing.assert_close(trace.log_mean_exp(trace.log_w), torch.logsumexp(joint, 0))
    torch.testing.assert_close(trace.terms()["elbo"], (trace.log_share.exp() * (joint - trace.log_share)).sum(0))


@pytest.mark.parametrize("num_samples", [1, 2, 4])
def test_drawn_classes_agree_with_enumeration(num_samples: int) -> None:
    """20,000 estimates; two z-scores below 5.5: false-fail rate 8e-8. A class has no reparameterised draw."""
    model = one_group()
    trace = model(lb.Batch(X.expand(20_000, 2)), num_samples)
    assert trace.latents[0].drawn
    assert abs(z_score(trace.log_mean_exp(trace.log_w), BOUNDS[num_samples])) < 5.5
    outcome = ELBO(num_samples)(model, lb.Batch(X.expand(20_000, 2)), torch.zeros(()))
    assert abs(z_score(outcome.terms["elbo"], BOUNDS[1])) < 5.5


@pytest.mark.parametrize("num_samples", [1, 2, 3, 130])
def test_the_evaluation_agrees_with_enumeration(num_samples: int) -> None:
    """`score` on 20,000 equal rows; false-fail rate 8e-8 (two z-scores). K is used, and is what is divided by."""
    spec = lb.DataSpec("counts", (2,), "table", "real", 20_000)
    rows = lb.Dataset(X.float().expand(20_000 if num_samples < 9 else 2000, 2), None, spec, "test")
    model = one_group().float()
    group = model.groups[0]
    group.logits = group.logits.float()
    scores = lb.score(model, rows, num_samples=num_samples, seed=2)
    assert abs(z_score(scores.log_px.exp(), float(f64(LOG_PX).exp()))) < 5.5
    if num_samples in BOUNDS:
        assert abs(z_score(scores.log_px, BOUNDS[num_samples])) < 5.5
    assert abs(z_score(-(scores.distortion + scores.rate), BOUNDS[1])) < 5.5


def test_classes_from_the_prior_are_plain_monte_carlo() -> None:
    """Mean of p(x|class) over 40,000 draws of the prior; false-fail rate 4e-8."""
    trace = one_group()(lb.Batch(X), 40_000, from_prior)
    torch.testing.assert_close(trace.log_w, trace.log_px)
    assert abs(z_score(trace.log_w[:, 0].exp(), float(f64(LOG_PX).exp()))) < 5.5
