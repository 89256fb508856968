"""The gaps of the ELBO against their closed forms in linear models, and what z is worth to a decoder.

Estimates are compared within 6 standard errors: a false failure has a probability of 2e-9.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from lowerbound import from_arrays, load_data, recipes
from lowerbound.core.errors import Incompatible, NoDensity, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder
from lowerbound.evaluation import score
from lowerbound.evaluation.exact import exact_log_px
from lowerbound.evaluation.gaps import Fitted, gaps, sensitivity
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

D, L, NOISE = 3, 2, 0.7
OBLIQUE = torch.tensor([[1.0, 0.5], [2.0, -1.0], [0.3, 1.7]])  # p(z|x) is correlated
ORTHOGONAL = torch.tensor([[1.0, -2.0], [2.0, 1.0], [0.0, 0.0]])  # p(z|x) is not


def linear(spec, decoder, *, wider=0.0, moved=0.0):
    """Return a linear model whose q is the best one with independent dimensions, but for what is added to it.

    p(z|x) = N(M^-1 W' x / s^2, M^-1), M = I + W'W / s^2; the best such q has its mean and the variances 1 / M_dd.
    """
    precision = torch.eye(L) + decoder.T @ decoder / NOISE**2
    encoder, network = MLP((D,), (2, L), hidden=()), MLP((L,), (D,), hidden=())
    with torch.no_grad():
        matrix = torch.linalg.inv(precision) @ decoder.T / NOISE**2
        encoder.out.weight.copy_(torch.cat([matrix, torch.zeros(L, D)]))
        log_variance = precision.diagonal().reciprocal().log() + wider
        encoder.out.bias.copy_(torch.cat([torch.full((L,), moved), log_variance]))
        network.out.weight.copy_(decoder)
        network.out.bias.zero_()
    group = Flat(Normal((L,)), StandardNormal((L,)))
    return VAE(Encoder([encoder]), [group], Conditional(network, FixedNormal((D,), NOISE)), spec)


def exact(decoder, wider, moved):
    """Return approximation and amortisation gap: KL(best q || p(z|x)), and how much larger the encoder's is."""
    precision = np.eye(L) + decoder.double().numpy().T @ decoder.double().numpy() / NOISE**2
    diagonal = np.diag(precision)
    approximation = 0.5 * (np.log(diagonal).sum() - np.linalg.slogdet(precision)[1])
    shift = np.full(L, moved)
    amortisation = 0.5 * (L * (math.exp(wider) - 1 - wider) + shift @ precision @ shift)
    return approximation, amortisation


@pytest.fixture(scope="module")
def data():
    x = torch.randn(200, D, generator=torch.Generator().manual_seed(0))
    return from_arrays(x, kind="points", name="normal", test_fraction=0.5)


@pytest.mark.parametrize(
    ("decoder", "wider", "moved"),
    [(OBLIQUE, 0.0, 0.0), (OBLIQUE, 0.6, 0.2), (ORTHOGONAL, -0.8, 0.0), (ORTHOGONAL, 0.0, -0.3)],
)
def test_both_gaps_are_the_closed_forms(data, decoder, wider, moved):
    model = linear(data.spec, decoder, wider=wider, moved=moved)
    found = gaps(model, data.test, rows=20, steps=150, num_samples=1500)
    approximation, amortisation = exact(decoder, wider, moved)
    assert found.log_px.value == pytest.approx(float(exact_log_px(model, data.test.take(20)).mean()), abs=0.01)
    # what is left of the search, and the sampler's error, beside the spread over rows
    assert found.approximation.value == pytest.approx(approximation, abs=6 * found.approximation.se + 0.01)
    assert found.amortisation.value == pytest.approx(amortisation, abs=6 * found.amortisation.se + 0.01)
    total = found.approximation.value + found.amortisation.value
    assert found.log_px.value - found.elbo.value == pytest.approx(total)


def test_the_wrong_gaps_are_told_apart(data):
    """Negative control: a wider q is no approximation gap, and a correlated posterior no amortisation gap."""
    found = gaps(linear(data.spec, OBLIQUE), data.test, rows=20, steps=150, num_samples=1500)
    other = exact(ORTHOGONAL, 0.6, 0.0)
    assert abs(found.approximation.value - other[0]) > 6 * found.approximation.se + 0.01
    assert abs(found.amortisation.value - other[1]) > 6 * found.amortisation.se + 0.01


def test_the_elbo_is_that_of_score(data):
    model = linear(data.spec, OBLIQUE, wider=0.4)
    found = gaps(model, data.test, rows=20, steps=2, num_samples=3000)
    scores = score(model, data.test.take(20), num_samples=3000, seed=5)
    elbo = -float((scores.distortion + scores.rate).mean())
    assert found.elbo.value == pytest.approx(elbo, abs=0.05)
    assert found.elbo.n == 20


def test_missing_cells_and_units_are_those_of_score():
    x = np.random.default_rng(0).normal(size=(120, D)) * [1.0, 20.0, 0.1]
    x[::3, 1] = np.nan
    table = from_arrays(x, standardize=True, missing="keep", name="table")
    model = linear(table.spec, ORTHOGONAL)
    found = gaps(model, table.test, rows=12, steps=100, num_samples=1500)
    assert found.log_px.value == pytest.approx(float(exact_log_px(model, table.test.take(12)).mean()), abs=0.01)
    # where the second cell is missing the posterior is another one, which this encoder does not know
    whole = table.test.mask.all(1)
    known, unknown = (
        gaps(model, table.test.rows(which), rows=8, steps=100, num_samples=1500) for which in (whole, ~whole)
    )
    assert known.amortisation.value == pytest.approx(0, abs=0.01)
    assert unknown.amortisation.value > 0.1


def test_a_row_does_not_depend_on_the_rows_beside_it(data):
    """Rows beyond 100 are a block of their own."""
    doubled = data.test.rows(torch.arange(100).repeat(2)[:130])
    model = linear(data.spec, OBLIQUE, wider=0.3)
    whole = gaps(model, doubled, rows=130, steps=60, num_samples=400)
    assert whole.elbo.n == 130
    part = gaps(model, doubled, rows=100, steps=60, num_samples=400)
    assert whole.amortisation.value == pytest.approx(part.amortisation.value, abs=0.03)


def test_nothing_is_changed(data):
    model = linear(data.spec, OBLIQUE)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = gaps(model.train(), data.test, rows=5, steps=5, num_samples=9)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert gaps(model.eval(), data.test, rows=5, steps=5, num_samples=9) == first


def test_the_source_scores_what_it_draws():
    loc, scale = torch.randn(3, L), torch.rand(3, L) + 0.5
    p = StandardNormal((L,))(None, None)
    z, log_q, drawn = Fitted(loc, scale)(0, None, p, (4, 3))
    wanted = -0.5 * (((z - loc) / scale).square() + math.log(2 * math.pi)) - scale.log()
    torch.testing.assert_close(log_q, wanted.sum(-1))
    assert not drawn


@pytest.mark.parametrize("decoder", [OBLIQUE, ORTHOGONAL])
def test_another_rows_code_costs_what_the_closed_form_says(decoder):
    """For x ~ N(0, I) and q(z|x) = N(A x, S): E|x - W z'|^2 - E|x - W z|^2 = 2 tr(W A), z' of another x."""
    x = torch.randn(6000, D, generator=torch.Generator().manual_seed(3))
    rows = from_arrays(x, kind="points", name="normal")
    model = linear(rows.spec, decoder)
    found = sensitivity(model, rows.train)
    matrix = model.encoder.networks[0].out.weight[:L].detach()
    assert found.value == pytest.approx(float((decoder @ matrix).trace()) / NOISE**2, abs=6 * found.se)
    assert found.value > 6 * found.se
    nn.init.zeros_(model.decoder.network.out.weight)
    assert sensitivity(model, rows.train).value == 0.0


@pytest.mark.parametrize(("name", "rows"), [("vae", 101), ("cvae", 50), ("m2", 33), ("joint_vae", 2), ("ae", 7)])
def test_any_latent_can_be_that_of_another_row(name, rows):
    data = load_data("digits")
    model = getattr(recipes, name)(data.spec, latent_dim=2, hidden=(6,)).build(0)[0]
    found = sensitivity(model, data.test.matching(model.spec).take(rows), seed=2)
    assert math.isfinite(found.value)
    assert found.n == rows


def test_what_has_no_gaps_is_refused(data):
    digits = load_data("digits")
    for name, error, said in (
        ("ae", NoDensity, "a Delta posterior is a point"),
        ("m2", Incompatible, "2 latent groups"),
        ("vae_iaf", Incompatible, "among normals of independent dimensions, and this model's is IAF"),
        ("hyperspherical_vae", Incompatible, "and this model's is VonMisesFisher"),
    ):
        model = getattr(recipes, name)(digits.spec, latent_dim=2, hidden=(5,)).build(0)[0]
        with pytest.raises(error, match=said):
            gaps(model, digits.test.matching(model.spec), rows=2, steps=1, num_samples=2)
    model = linear(data.spec, OBLIQUE)
    with pytest.raises(UsageError, match="on 5 rows in 0 steps with 3 samples\n  expected 1 or more of each"):
        gaps(model, data.test, rows=5, steps=0, num_samples=3)
    with pytest.raises(UsageError, match="1 rows cannot be given each other's codes"):
        sensitivity(model, data.test.take(1))
