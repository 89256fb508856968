"""Two linear modalities with normal noise: exact experts make every weight log p of what is observed."""

import math
from itertools import product as every

import pytest
import torch
from oracle_parts import f64, set_linear, z_score
from torch.distributions import MultivariateNormal

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.families import FixedNormal, Modalities, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP, ModalityDecoders, ModalityEncoders
from lowerbound.objectives import ELBO, IWAE, Subsets, WeighedELBO
from lowerbound.posteriors import MixtureOfExperts, MixtureOfProducts, ProductOfExperts
from lowerbound.priors import StandardNormal

W = (f64([[1.0], [2.0]]), f64([[0.5], [-1.0], [0.3]]))
BIAS, S2 = (f64([0.1, -0.2]), f64([0.4, 0.0, -1.0])), (0.5, 0.8)
X = f64([[0.3, -0.7, 1.0, 0.2, -0.9], [1.9, 2.2, -0.3, 0.8, 0.1], [-0.4, 0.0, 2.0, -1.0, 0.5]])
SIZES = (2, 3)
SETS = [(1, 1), (1, 0), (0, 1)]


def model_with(posterior, *, own: bool) -> lb.VAE:
    """Return the model; each expert is p(z|x_m), or with `own` the likelihood of x_m as a density of z."""
    encoders, decoders = [], []
    for weight, bias, s2 in zip(W, BIAS, S2, strict=True):
        precision = weight.square().sum() / s2 + (0.0 if own else 1.0)
        gain = weight.T / s2 / precision
        head = Normal((1,))
        encoder, decoder = MLP((len(bias),), head.params, hidden=()), MLP((1,), (len(bias),), hidden=())
        start = head.bias_for(-gain @ bias, precision.reciprocal()[None])
        set_linear(encoder.double(), torch.cat([gain, torch.zeros_like(gain)]), start)
        set_linear(decoder.double(), weight, bias)
        encoders.append(encoder)
        decoders.append(decoder)
    likelihood = Modalities(tuple(FixedNormal((size,), math.sqrt(s2)) for size, s2 in zip(SIZES, S2, strict=True)))
    decoder = Conditional(ModalityDecoders(tuple(decoders)), likelihood)
    group = Flat(posterior, StandardNormal((1,)))
    return lb.VAE(Encoder([ModalityEncoders(tuple(encoders))]), [group], decoder).double().requires_grad_(False)


def mask_of(seen) -> torch.Tensor:
    return torch.cat([torch.full((1, size), float(s)) for s, size in zip(seen, SIZES, strict=True)], 1).double()


def log_p(seen) -> torch.Tensor:
    """log p of the observed modalities of each row."""
    weight, bias = (torch.cat([t for t, s in zip(each, seen, strict=True) if s]) for each in (W, BIAS))
    noise = torch.cat([f64([s2] * n) for n, s2, s in zip(SIZES, S2, seen, strict=True) if s])
    x = X[:, mask_of(seen)[0].bool()]
    return MultivariateNormal(bias, weight @ weight.T + torch.diag(noise)).log_prob(x)


@pytest.mark.parametrize("seen", SETS)
def test_the_product_of_exact_experts_is_the_posterior_of_every_set(seen) -> None:
    model, mask = model_with(ProductOfExperts((1,), 2), own=True), mask_of(seen).expand_as(X)
    hidden = torch.where(mask.bool(), X, torch.nan)
    trace = model(lb.Batch(hidden, mask=mask), 7)
    torch.testing.assert_close(trace.log_w, log_p(seen).expand(7, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("family", "seen"), [*every([MixtureOfExperts, MixtureOfProducts], SETS[1:])])
def test_a_mixture_of_one_observed_expert_is_exact(family, seen) -> None:
    model, mask = model_with(family((1,), 2), own=False), mask_of(seen).expand_as(X)
    trace = model(lb.Batch(torch.where(mask.bool(), X, torch.nan), mask=mask), 6)
    torch.testing.assert_close(trace.log_w, log_p(seen).expand(6, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", [MixtureOfExperts, MixtureOfProducts])
def test_the_weights_of_stratified_draws_are_unbiased(family) -> None:
    """6 z-scores of 30,000 means of 5 weights, of any one draw among the 5, too: false-fail rate 2e-7."""
    model = model_with(family((1,), 2), own=False)
    for row in range(3):
        w = model(lb.Batch(X[row].expand(30_000, 5)), 5).log_w.exp()
        for draws in (w.mean(0), w[0]):
            assert abs(z_score(draws, log_p((1, 1))[row].exp())) < 5.5


@pytest.mark.parametrize("family", [ProductOfExperts, MixtureOfExperts, MixtureOfProducts])
def test_what_a_missing_modality_holds_changes_no_number(family) -> None:
    model, mask = model_with(family((1,), 2), own=True), mask_of((1, 0)).expand_as(X)
    found = []
    for filler in (0.0, 1e30, math.nan, math.inf):
        torch.manual_seed(1)
        trace = model(lb.Batch(torch.where(mask.bool(), X, filler), mask=mask), 4)
        found.append(torch.stack([trace.log_w, trace.log_px, trace.latents[0].z[..., 0]]))
    assert bool(found[0].isfinite().all())
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_the_encoder_may_see_less_than_is_scored() -> None:
    model, mask = model_with(ProductOfExperts((1,), 2), own=True), mask_of((0, 1)).expand_as(X)
    trace = model(lb.Batch(X, seen_mask=mask), 3)
    alone = model.infer(X, mask=mask)
    assert torch.equal(trace.latents[0].q.loc, alone.loc)
    torch.testing.assert_close(trace.log_px, trace.px.log_prob(X))
    assert not torch.allclose(alone.loc, model.infer(X).loc)


def loss(objective, batch) -> float:
    torch.manual_seed(5)
    return float(objective(model_with(ProductOfExperts((1,), 2), own=True), batch, first_step()).losses["model"])


def test_the_pass_with_all_modalities_alone_is_the_wrapped_objective() -> None:
    plain = Subsets(ELBO(3), SIZES, alone=False, drawn=0)
    assert loss(plain, lb.Batch(X)) == loss(ELBO(3), lb.Batch(X))


def test_the_loss_of_all_sets_is_the_mean_of_their_bounds() -> None:
    """With exact experts each pass is log p of what its encoder saw, whatever was drawn."""
    found = loss(Subsets(IWAE(2), SIZES, drawn=0), lb.Batch(X))
    wanted = -float(torch.stack([log_p(seen) for seen in SETS]).mean())
    assert found == pytest.approx(wanted, abs=1e-10)


def test_a_row_without_a_modality_is_shown_what_it_has() -> None:
    mask = mask_of((1, 0)).expand_as(X)
    hidden = lb.Batch(torch.where(mask.bool(), X, torch.nan), mask=mask)
    for scored in ("seen", "observed"):
        found = loss(Subsets(IWAE(2), SIZES, drawn=2, scored=scored), hidden)
        assert found == pytest.approx(-float(log_p((1, 0)).mean()), abs=1e-10)


def test_random_sets_are_non_empty_and_equally_frequent() -> None:
    """7 shares of 70,000 rows: false-fail rate 3e-7."""
    objective = Subsets(ELBO(), (1, 2, 1), alone=False, drawn=1)
    (sets,) = objective._sets(lb.Batch(torch.zeros(70_000, 4)))
    counts = torch.bincount((sets * torch.tensor([1, 2, 4])).sum(1), minlength=8)
    assert int(counts[0]) == 0
    assert float((counts[1:] - 10_000).abs().max()) < 5.5 * math.sqrt(70_000 / 7 * 6 / 7)


def test_weights_change_the_loss_alone() -> None:
    model, batch = model_with(ProductOfExperts((1,), 2), own=True), lb.Batch(X)
    found = {}
    weighed = {name: WeighedELBO(weights, 2, 1.7) for name, weights in (("ones", (1.0, 1.0)), ("more", (1.0, 6.4)))}
    for name, objective in {"plain": ELBO(2, beta=1.7), **weighed}.items():
        torch.manual_seed(6)
        found[name] = objective(model, batch, first_step())
    for term in ("elbo", "distortion", "rate"):
        assert torch.equal(found["more"].terms[term], found["plain"].terms[term])
    plain, ones, more = (float(found[name].losses["model"]) for name in ("plain", "ones", "more"))
    assert ones == pytest.approx(plain, abs=1e-12)
    second = found["plain"].trace.px.log_prob_parts(X)[1].mean()
    assert more == pytest.approx(plain - 5.4 * float(second), abs=1e-10)
