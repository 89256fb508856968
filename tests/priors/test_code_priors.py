"""Priors of codes: probabilities that sum to one, draws that follow them, and what fitting them to codes gains."""

from functools import cache
from itertools import product

import pytest
import torch

from lowerbound import evaluate, fit, fit_prior, load_data, recipes
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import inference
from lowerbound.core.types import Batch
from lowerbound.priors import PixelCNNPrior, TransformerPrior, UniformCodes

PRIORS = {
    "pixelcnn": lambda: PixelCNNPrior((1, 2, 3), 2, channels=6, blocks=2),
    "pixelcnn of a vector": lambda: PixelCNNPrior((1, 3, 2), 2, channels=6, blocks=1, context=(5,)),
    "pixelcnn of a map": lambda: PixelCNNPrior((1, 3, 2), 2, channels=6, blocks=1, context=(5, 2, 1)),
    "transformer": lambda: TransformerPrior((2, 3), 2, width=16, heads=2, layers=1),
    "transformer of a vector": lambda: TransformerPrior((3, 2, 1), 2, width=16, heads=2, context=(5,)),
}
each = pytest.mark.parametrize("name", PRIORS)


def made(name):
    """Return a distribution with weights far from their start, in double precision, and all codes."""
    torch.manual_seed(8)
    prior = PRIORS[name]().double()
    for weight in prior.parameters():
        weight.data.normal_(std=0.5)
    y = torch.randn(prior.context).double() if prior.context else None
    return prior, prior(y, None), torch.tensor(list(product(range(2), repeat=6))).view(-1, *prior.event_shape)


@each
def test_the_probabilities_of_all_codes_sum_to_one(name):
    _, p, codes = made(name)
    share = p.log_prob(codes).exp().detach()
    torch.testing.assert_close(share.sum(), torch.tensor(1.0).double(), rtol=1e-12, atol=0)
    assert float(share.max() / share.min()) > 2  # not the uniform distribution, which would sum to one as well


@each
def test_draws_are_as_frequent_as_they_are_probable(name):
    _, p, codes = made(name)
    torch.manual_seed(9)
    drawn = p.sample((20_000,)).flatten(1) @ (2 ** torch.arange(6))
    counts = torch.bincount(drawn, minlength=64).double()
    expected = 20_000 * p.log_prob(codes).exp().detach()
    which = codes.flatten(1) @ (2 ** torch.arange(6))
    # Pearson's statistic has mean 63 and variance about 2 x 63: six deviations, a false alarm in about 10^6
    assert float(((counts[which] - expected).square() / expected).sum()) < 63 + 6 * (2 * 63) ** 0.5


@pytest.mark.parametrize("name", ["pixelcnn of a map", "transformer"])
def test_a_temperature_divides_the_logits_of_each_code(name):
    """Against enumeration: P(c_i | c_1 ... c_(i-1)) of the table of all codes, to the power 1 / T, made to sum to 1."""
    _, p, codes = made(name)
    order = codes.movedim(1, -1).flatten(1) @ (2 ** torch.arange(5, -1, -1))  # as they are drawn
    table = torch.zeros(64).double()
    table[order] = p.log_prob(codes).exp().detach()
    table, expected = table.view([2] * 6), torch.ones([2] * 6).double()
    for place in range(6):
        before = table.sum(tuple(range(place + 1, 6)), keepdim=True) if place < 5 else table
        power = (before / before.sum(place, keepdim=True)) ** (1 / 0.4)
        expected = expected * power / power.sum(place, keepdim=True)
    torch.manual_seed(4)
    drawn = p.sample_at(0.4, (10_000,)).movedim(1, -1).flatten(1) @ (2 ** torch.arange(5, -1, -1))
    counts, expected = torch.bincount(drawn, minlength=64).double(), 10_000 * expected.flatten()
    some = expected > 5  # the others together are one more
    found, wanted = (torch.cat([v[some], v[~some].sum()[None]]) for v in (counts, expected))
    free = len(found) - 1
    assert free > 5
    assert float(((found - wanted).square() / wanted).sum()) < free + 6 * (2 * free) ** 0.5
    assert torch.equal(p.sample_at(0.0, (3,)), p.centre.expand(3, *p.event_shape))


@each
def test_one_pass_over_conditions_gives_what_each_alone_gives(name):
    prior, _, codes = made(name)
    if not prior.context:
        assert prior(None, None).batch_shape == ()
        return
    y = torch.randn(3, 4, *prior.context).double()
    some = codes[:12].view(3, 4, *prior.event_shape)
    together = prior(y, None).log_prob(some)
    alone = torch.stack([torch.stack([prior(y[k, b], None).log_prob(some[k, b]) for b in range(4)]) for k in range(3)])
    torch.testing.assert_close(together, alone)
    assert prior(y, None).sample((7,)).shape == (7, 3, 4, *prior.event_shape)


@each
def test_the_centre_is_no_draw_and_is_probable(name):
    _, p, codes = made(name)
    assert torch.equal(p.centre, p.centre)
    assert float(p.log_prob(p.centre).detach()) > float(p.log_prob(codes).detach().median())


@cache
def trained(name, **options):
    return fit(
        getattr(recipes, name)(load_data("digits").spec, **options),
        load_data("digits"),
        epochs=3,
        seed=1,
        progress=False,
    )


@pytest.mark.parametrize(
    "make",
    [lambda q: PixelCNNPrior(q.codes_shape, q.classes, 16, 1), lambda q: TransformerPrior(q.codes_shape, q.classes)],
)
def test_a_fitted_prior_lowers_the_rate_and_changes_nothing_else(make):
    model, data = trained("vq_vae").model, load_data("digits")
    fitted = fit_prior(model, make(model.groups[0].posterior_family), data, epochs=4, lr=4e-3)
    before, after = (evaluate(m, data.test, num_samples=1) for m in (model, fitted))
    assert after.distortion.value == before.distortion.value
    assert after.rate.value < before.rate.value - 0.5
    assert after.elbo.value == pytest.approx(before.elbo.value + before.rate.value - after.rate.value, abs=1e-9)
    assert fitted.sample(5, seed=0).shape == (5, 1, 8, 8)
    assert not torch.equal(fitted.sample(5, seed=0), fitted.sample(5, seed=1))
    assert torch.equal(fitted.sample(2, temperature=0.0, seed=0), fitted.sample(2, temperature=0.0, seed=1))
    with pytest.raises(UsageError, match=r"to this prior all codes are alike(.|\n)*fit-prior"):
        model.sample(2, temperature=0.5)


def test_a_prior_of_finer_codes_reads_the_coarser_ones():
    run, data = trained("vq_vae2", halvings=1), load_data("digits")
    fine, above = run.model.groups[1].posterior_family, run.model.groups[0].posterior_family
    context = (above.params[0], *above.places)
    prior = PixelCNNPrior(fine.codes_shape, fine.classes, 16, 1, context=context)
    fitted = fit_prior(run.model, prior, data, epochs=3, group=1)
    x = data.test.matching(run.model.spec).batch(slice(0, 9)).x
    with inference(fitted):
        old, new = (m(Batch(x)).latents for m in (run.model, fitted))
        assert torch.equal(old[1].z, new[1].z) and torch.equal(old[0].log_p, new[0].log_p)
        assert float(new[1].log_p.mean()) > float(old[1].log_p.mean()) + 1
        state = fitted.groups[0].merge(None, new[0].z)
        other = fitted.groups[1].prior(state.flip(1), None, None).log_prob(new[1].z)
        assert not torch.allclose(other, new[1].log_p)  # another coarse code makes other fine codes probable
    assert fitted.sample(3, seed=0).shape == (3, 1, 8, 8)
    with pytest.raises(UsageError, match="no group 2"):
        fit_prior(run.model, prior, data, group=2)


def test_what_cannot_be_a_prior_of_codes_is_refused():
    with pytest.raises(Incompatible, match="PixelCNN cannot guess codes of shape"):
        PixelCNNPrior((2, 3, 3), 5)
    with pytest.raises(ShapeError, match=r"cannot read \(2, 3\)"):
        PixelCNNPrior((1, 3, 3), 5, context=(2, 3))
    with pytest.raises(ShapeError, match="use a PixelCNNPrior"):
        TransformerPrior((1, 3, 3), 5, context=(2, 3, 3))
    with pytest.raises(ShapeError, match="was given nothing to read"):
        TransformerPrior((1, 3), 5, context=(2,))(None, None)
    with pytest.raises(UsageError, match="1 codes"):
        UniformCodes((1, 3), 1)
