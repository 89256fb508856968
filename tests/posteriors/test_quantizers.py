"""Quantisers: what they round to, what it costs, and how books learn, against formulas written out."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from lowerbound import load_data, recipes
from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder
from lowerbound.core.types import Batch
from lowerbound.core.walk import observe
from lowerbound.families import Bernoulli
from lowerbound.groups import Coded
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO, IWAE
from lowerbound.posteriors import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from lowerbound.priors import StandardNormal, TransformerPrior, UniformCodes
from lowerbound.train.update import Guard, Pieces, make_optimizers, update

QUANTIZERS = {
    "vector": lambda: VectorQuantizer((3, 2), dim=4, classes=11),
    "residual": lambda: VectorQuantizer((5,), dim=4, classes=7, stages=3),
    "gradient": lambda: VectorQuantizer((3,), dim=2, classes=9, book="gradient"),
    "finite scalar": lambda: FiniteScalarQuantizer((3, 2), (5, 4, 3)),
    "lookup free": lambda: LookupFreeQuantizer((4,), dim=6),
}
LOG_CODES = {
    "vector": 6 * math.log(11),
    "residual": 5 * 3 * math.log(7),
    "gradient": 3 * math.log(9),
    "finite scalar": 6 * (math.log(5) + math.log(4) + math.log(3)),
    "lookup free": 4 * 6 * math.log(2),
}
each = pytest.mark.parametrize("name", QUANTIZERS)


def made(name, rows=8, spread=0.3):
    torch.manual_seed(5)
    quantizer = QUANTIZERS[name]()
    return quantizer, (torch.randn(rows, *quantizer.params) * spread).requires_grad_()


@each
def test_the_rate_under_a_uniform_prior_is_the_log_of_the_number_of_codes(name):
    quantizer, h = made(name)
    group = Coded(quantizer, UniformCodes(quantizer.codes_shape, quantizer.classes))
    z, log_q = quantizer(h).rsample_and_log_prob((3,))
    rate = log_q - group.prior(None, None, None).log_prob(z)
    torch.testing.assert_close(rate, torch.full((3, 8), LOG_CODES[name]))


@each
def test_codes_and_vectors_say_the_same(name):
    quantizer, h = made(name)
    q = quantizer(h)
    assert q.codes.dtype == torch.long and int(q.codes.min()) >= 0 and int(q.codes.max()) < quantizer.classes
    assert torch.equal(quantizer.codes(q.rsample()), q.codes)
    assert torch.equal(quantizer.embed(q.codes), q.rsample())
    assert torch.equal(q.log_prob(q.value), torch.zeros(8))
    assert torch.equal(q.log_prob(q.value + 1), torch.full((8,), -math.inf))


@each
def test_every_code_can_be_drawn_and_comes_back(name):
    quantizer, _ = made(name)
    codes = torch.randint(quantizer.classes, (4000, *quantizer.codes_shape))
    assert len(codes.unique()) == quantizer.classes
    assert torch.equal(quantizer.codes(quantizer.embed(codes)), codes)


@pytest.mark.parametrize("name", ["vector", "residual", "gradient", "lookup free"])
def test_the_decoders_gradient_reaches_the_encoder_as_if_nothing_were_rounded(name):
    quantizer, h = made(name)
    weights = torch.randn(8, *quantizer.state_shape)
    group = Coded(quantizer, UniformCodes(quantizer.codes_shape, quantizer.classes))
    (weights * group.merge(None, quantizer(h).rsample())).sum().backward()
    torch.testing.assert_close(h.grad, weights)


def test_a_vector_goes_to_the_nearest_and_costs_its_squared_distance():
    quantizer, h = made("residual")
    q = quantizer(h)
    rest, cost, books = h.detach().double().movedim(1, -1), 0.0, quantizer.codebook.double()
    for stage in range(3):
        distances = torch.stack([(rest - e).square().sum(-1) for e in books[stage]], -1)
        assert torch.equal(q.codes[:, stage], distances.argmin(-1))
        cost = cost + 0.25 * distances.min(-1).values.sum(-1)
        rest = rest - books[stage][distances.argmin(-1)]
    torch.testing.assert_close(q.penalty.double(), cost, rtol=1e-5, atol=1e-6)


def test_a_book_learned_by_gradient_is_pulled_to_what_was_rounded():
    quantizer, h = made("gradient")
    q = quantizer(h)
    q.penalty.sum().backward()
    flat, codes = h.detach().movedim(1, -1).flatten(0, 1), q.codes.flatten()
    for k, e in enumerate(quantizer.codebook[0].detach()):
        torch.testing.assert_close(quantizer.codebook.grad[0, k], 2 * (e - flat[codes == k]).sum(0))
    nearest = quantizer.embed(q.codes)[:, 0]
    torch.testing.assert_close(h.grad, 2 * 0.25 * (h.detach() - nearest))


def small_model(quantizer, x_dim=10):
    likelihood = Bernoulli((x_dim,))
    encoder = Encoder([MLP((x_dim,), quantizer.params, (12,))])
    decoder = Conditional(MLP(quantizer.state_shape, likelihood.params, (13,)), likelihood)
    return VAE(encoder, [Coded(quantizer, UniformCodes(quantizer.codes_shape, quantizer.classes))], decoder)


def moved(quantizer, pieces=None, steps=1, rows=24):
    """Take steps on one batch, cut in pieces or not, and return the quantiser's state."""
    torch.manual_seed(2)
    model = small_model(quantizer)
    x = (torch.rand(rows, 10) < 0.4).float()
    objective, training = ELBO(), recipes.vae(load_data("digits").spec).training
    optimizers = make_optimizers(objective.players(model), training)
    for step in range(steps):
        cut = Pieces(pieces) if pieces else None
        update(
            objective, model, optimizers, Batch(x), torch.tensor(float(step)), Guard(torch.device("cpu")), pieces=cut
        )
    return model, x, {key: value.clone() for key, value in quantizer.state_dict().items()}


@pytest.mark.parametrize("name", ["vector", "residual", "gradient", "lookup free"])
def test_a_batch_in_pieces_moves_the_book_as_the_whole_batch_does(name):
    _, _, whole = moved(made(name)[0], steps=3)
    for pieces in (5, 9):
        for key, value in moved(made(name)[0], pieces, steps=3)[2].items():
            torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-5, msg=key)


def test_the_book_is_the_running_mean_of_what_was_rounded_to_it():
    quantizer, _ = made("vector")
    torch.manual_seed(1)
    model = small_model(quantizer)
    before = quantizer.codebook[0].numpy().copy()
    count, total, resting = np.zeros(11), np.zeros((11, 4)), 0
    for seed in range(4):
        x = (torch.rand(9, 10, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
        trace = model(Batch(x))
        flat = trace.latents[0].q.path.detach().movedim(1, -1).reshape(-1, 4).double().numpy()
        codes = trace.latents[0].q.codes.flatten().numpy()
        hits = np.eye(11)[codes]
        resting += (hits.sum(0) == 0).sum()
        count, total = 0.99 * count + 0.01 * hits.sum(0), 0.99 * total + 0.01 * hits.T @ flat
        quantizer.after_step(quantizer.statistics(trace, Batch(x)))
        before = np.where(hits.sum(0)[:, None] > 0, total / np.maximum(count, 1e-12)[:, None], before)
        np.testing.assert_allclose(quantizer.codebook[0].numpy(), before, rtol=1e-4, atol=1e-6)
    assert 0 < resting < 44  # both cases were seen


def fed(quantizer, flat, steps):
    """Let a quantiser of one place learn from vectors `[N, dim]` for some steps; returns the mean squared error."""
    trace = small_model(quantizer)(Batch(torch.zeros(len(flat), 10)))
    for _ in range(steps):
        q = trace.latents[0].q = quantizer(flat[..., None])
        quantizer.after_step(quantizer.statistics(trace, Batch(torch.zeros(len(flat), 10))))
    return float((flat - quantizer(flat[..., None]).value[:, 0, :, 0]).square().sum(-1).mean()), q


def test_unused_codes_are_revived_with_their_statistics():
    torch.manual_seed(3)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 1.0], [0.0, 5.0], [1.0, -6.0]])
    flat = centres.repeat_interleave(50, 0) + 0.05 * torch.randn(200, 2)
    quantizer = VectorQuantizer((1,), dim=2, classes=4, window=10)
    quantizer.codebook.copy_(torch.tensor([[[0.0, 0.0], [90.0, 0.0], [0.0, 95.0], [-99.0, 0.0]]]))
    error, _ = fed(quantizer, flat, 9)
    assert error > 10  # one code for all, as the others are too far away
    fed(quantizer, flat, 1)
    assert quantizer.usage[0].tolist() == [2000.0, 0.0, 0.0, 0.0]  # over the window and not in one batch
    torch.testing.assert_close(quantizer.total, quantizer.count[..., None] * quantizer.codebook)
    error, q = fed(quantizer, flat, 200)
    assert len(q.codes.unique()) == 4
    assert error < 0.01  # the noise has 0.005; a revived code whose statistics were old would have gone back


def test_splitting_a_code_keeps_the_mean_of_its_statistics():
    torch.manual_seed(4)
    flat = torch.randn(4000, 2) * torch.tensor([3.0, 0.5])
    quantizer = VectorQuantizer((1,), dim=2, classes=2, window=1)
    quantizer.codebook.copy_(torch.tensor([[[0.0, 0.0], [90.0, 0.0]]]))
    fed(quantizer, flat, 1)
    halves = quantizer.codebook[0][quantizer.codebook[0, :, 0].argsort()]
    # E|x| of a normal of deviation 3 is 3 sqrt(2 / pi) = 2.394; of 4,000 draws its standard error is below 0.03
    torch.testing.assert_close(halves[:, 0], torch.tensor([-2.394, 2.394]), rtol=0, atol=0.15)
    torch.testing.assert_close(halves[0, 1], halves[1, 1])
    torch.testing.assert_close(quantizer.total[0].sum(0) / quantizer.count.sum(), flat.mean(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("levels", [(5, 4, 3), (2, 2), (8, 5, 5, 5), (7,)])
def test_all_levels_of_a_scalar_are_reached_and_no_others(levels):
    quantizer = FiniteScalarQuantizer((1,), levels)
    h = torch.linspace(-9, 9, 4001)[:, None, None].expand(-1, len(levels), 1)
    value = quantizer(h).value[:, 0, :, 0]
    for d, count in enumerate(levels):
        expected = (torch.arange(count) - count // 2) / (count // 2)
        torch.testing.assert_close(value[:, d].unique(), expected)


def test_the_entropies_of_signs_have_the_gradient_of_their_own_formula():
    torch.manual_seed(6)
    quantizer = LookupFreeQuantizer((3,), dim=4, commitment=0.0, weight=0.7, temperature=2.0)
    h = torch.randn(50, 4, 3, requires_grad=True)
    p = (4 * h / 2.0).sigmoid()

    def entropy(share):
        return -(share * share.log() + (1 - share) * (1 - share).log())

    quantizer.share.copy_(p.detach().mean((0, 2)))
    cost = quantizer(h).penalty.sum()
    (given,) = torch.autograd.grad(cost, h)
    formula = 0.7 * (entropy(p).sum() - 150 * entropy(p.mean((0, 2))).sum())
    (expected,) = torch.autograd.grad(formula, h)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(cost, formula)


def test_the_elbo_is_below_log_p_x_summed_over_all_codes():
    torch.manual_seed(7)
    quantizer = VectorQuantizer((2,), dim=3, classes=5, stages=2)
    model = small_model(quantizer)
    x = (torch.rand(6, 10) < 0.5).float()
    whole = torch.tensor(list(product(range(5), repeat=4))).view(-1, 2, 2)
    z = quantizer.embed(whole)[:, None].expand(-1, 6, *quantizer.event_shape)
    trace = model(Batch(x), num_samples=len(z), source=observe({0: z}))
    log_px = torch.logsumexp(trace.log_px + trace.latents[0].log_p, 0)
    torch.testing.assert_close(trace.latents[0].log_p.exp().sum(0), torch.ones(6))
    elbo = model(Batch(x)).terms()["elbo"]
    assert bool((elbo < log_px).all())
    best = (trace.log_px + trace.latents[0].log_p).max(0).values
    assert bool((elbo <= best + 1e-4).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": IWAE(num_samples=3)}, "VectorQuantizer posterior cannot be used with IWAE"),
        ({"objective": ELBO(num_samples=2)}, "ELBO of 2 samples"),
        ({"objective": ELBO(beta=4.0)}, "whose beta is not 1"),
    ],
)
def test_objectives_that_mean_nothing_for_codes_are_refused(change, words):
    recipe = recipes.vq_vae(load_data("digits").spec)
    with pytest.raises(Incompatible, match=words):
        recipe.replace(**change)


@pytest.mark.parametrize(
    "prior", [StandardNormal((1, 2, 2)), UniformCodes((1, 2, 2), 7), TransformerPrior((1, 2, 3), 128, width=8)]
)
def test_priors_of_other_codes_are_refused(prior):
    recipe = recipes.vq_vae(load_data("digits").spec)
    with pytest.raises(Incompatible, match="prior"):
        recipe.replace(groups=(Coded(recipe.groups[0].posterior_family, prior),))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VectorQuantizer((3,), classes=1), "1 codes"),
        (lambda: VectorQuantizer((0,)), "places"),
        (lambda: VectorQuantizer((3,), decay=1.0), "decay"),
        (lambda: FiniteScalarQuantizer((3,), (5, 1)), "levels"),
        (lambda: FiniteScalarQuantizer((3,), ()), "levels"),
        (lambda: LookupFreeQuantizer((3,), dim=30), "too many"),
        (lambda: LookupFreeQuantizer((3,), temperature=0.0), "temperature"),
        (lambda: UniformCodes((), 4), "no codes"),
    ],
)
def test_impossible_quantizers_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
