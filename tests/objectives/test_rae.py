"""The regularised autoencoder: its penalties by hand and from the exact Jacobian; spectral normalisation."""

import copy
import inspect
from itertools import product

import pytest
import torch

from lowerbound import VAE, Batch, fit, load, load_data, recipes, save
from lowerbound.core.errors import UsageError
from lowerbound.core.model import Conditional, Encoder, inference
from lowerbound.core.objective import first_step
from lowerbound.core.record import describe, rebuild
from lowerbound.families import Bernoulli, Delta, FixedNormal
from lowerbound.groups import Flat
from lowerbound.networks import MLP, ConvDecoder, ConvEncoder, SpectralNorm
from lowerbound.objectives import RAE
from lowerbound.priors import MixtureOfNormals, StandardNormal
from lowerbound.train.fit_prior import fit_prior

D, L = 4, 3
SIGNS = torch.tensor(list(product([0.0, 1.0], repeat=D)), dtype=torch.float64)  # of all outputs, [16, D]


def tiny(likelihood):
    """Return a float64 autoencoder with one hidden layer in the decoder."""
    encoder, decoder = MLP((D,), (L,), ()), MLP((L,), likelihood.params, (5,), "tanh")
    group = Flat(Delta((L,)), StandardNormal((L,)))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood)).double()


@pytest.fixture
def all_signs(monkeypatch):
    """Let the 16 rows of a batch meet each sign vector once, so that averages over rows are expectations."""
    monkeypatch.setattr(torch, "rand_like", lambda mean: SIGNS.expand(mean.shape))


@pytest.mark.parametrize("likelihood", [FixedNormal((D,), 0.7), Bernoulli((D,))], ids=["Normal", "Bernoulli"])
def test_the_gradient_penalty_is_the_squared_norm_of_the_jacobian(likelihood, all_signs):
    model, objective = tiny(likelihood), RAE(0.3, "gradient_penalty", 0.2)
    x = (torch.rand(D, dtype=torch.float64) < 0.5).double()
    outcome = objective(model, Batch(x.expand(16, D)), first_step())
    z = model.encoder.networks[0](x[None])[0]

    def mean_at(code):
        out = model.decoder.network(code[None])[0]
        return out.sigmoid() if isinstance(likelihood, Bernoulli) else out

    exact = torch.func.jacrev(mean_at)(z).square().sum()
    torch.testing.assert_close(outcome.terms["decoder_penalty"].mean(), exact)
    assert outcome.terms["decoder_penalty"].std().item() > 0.01 * exact.item(), "each row has its own signs"
    by_hand = -model.decoder(z[None]).log_prob(x)[0] + 0.3 * 0.5 * z.square().sum() + 0.2 * exact
    torch.testing.assert_close(outcome.losses["model"], by_hand)
    parameters = list(model.parameters())
    got, wanted = (torch.autograd.grad(loss, parameters) for loss in (outcome.losses["model"], by_hand))
    torch.testing.assert_close(got, wanted)


def test_the_gradient_penalty_needs_no_gradient_mode():
    model, batch, objective = tiny(FixedNormal((D,))), Batch(torch.randn(6, D, dtype=torch.float64)), RAE()
    torch.manual_seed(3)
    training = objective(model, batch, first_step()).terms["decoder_penalty"]
    with inference(model):
        torch.manual_seed(3)
        torch.testing.assert_close(objective(model, batch, first_step()).terms["decoder_penalty"], training)


def test_the_squared_weights_count_once_whatever_the_batch():
    model = tiny(FixedNormal((D,)))
    for size in (2, 7):
        batch = Batch(torch.randn(size, D, dtype=torch.float64))
        plain, decayed = (RAE(0.0, kind, 0.5)(model, batch, first_step()).losses["model"] for kind in ("none", "l2"))
        weights = list(model.decoder.network.parameters())
        torch.testing.assert_close(decayed - plain, 0.5 * sum(w.square().sum() for w in weights))
        parts = zip(torch.autograd.grad(decayed - plain, weights), weights, strict=True)
        for gradient, weight in parts:
            torch.testing.assert_close(gradient, weight.detach())  # 0.5 * 2 theta


def test_a_wrong_penalty_or_weight_is_refused():
    with pytest.raises(UsageError, match="code_weight=-1"):
        RAE(-1.0)
    with pytest.raises(UsageError, match="none, l2 or gradient_penalty"):
        inspect.unwrap(RAE.__init__)(RAE(), decoder="spectral_norm")  # its annotation refuses it in tests


def largest(network):
    """Return the largest singular value of each normalised weight, as a matrix of its outputs."""
    layers = [m for m in network.modules() if hasattr(m, "parametrizations")]
    weights = [w.weight.transpose(0, 1) if isinstance(w, torch.nn.ConvTranspose2d) else w.weight for w in layers]
    return torch.stack([torch.linalg.svdvals(w.flatten(1).detach())[0] for w in weights])


NETWORKS = {
    "MLP": lambda: MLP((3,), (2, 5), (17, 11)),
    "ConvDecoder": lambda: ConvDecoder((3,), (2, 9, 7), (6, 4)),
    "ConvEncoder": lambda: ConvEncoder((2, 9, 7), (4,), (5, 6)),
}


def step(network, times):
    """Let the singular vectors follow the weights `times` steps."""
    batch = Batch(torch.zeros(1, D, dtype=torch.float64))
    trace = tiny(FixedNormal((D,)))(batch)
    for _ in range(times):
        network.after_step(network.statistics(trace, batch))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=list(NETWORKS))
def test_every_normalised_weight_has_largest_singular_value_one(make):
    network = SpectralNorm(make()).double()
    assert len(largest(network)) == 3
    torch.testing.assert_close(largest(network), torch.ones(3, dtype=torch.float64), rtol=2e-3, atol=0)


def test_the_singular_vectors_follow_the_weights_after_a_step_and_never_in_a_pass():
    network = SpectralNorm(MLP((3,), (5,), (7,)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = copy.deepcopy(network.state_dict())
    network(torch.randn(4, 3))
    network.train()(torch.randn(4, 3))
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    away = (largest(network) - 1).abs().max()
    assert float(away) > 0.02, "the weights moved: their vectors are old"
    step(network, 200)
    torch.testing.assert_close(largest(network), torch.ones(2), rtol=1e-3, atol=0)
    moved = {k for k, tensor in network.state_dict().items() if not torch.equal(tensor, before[k])}
    assert moved == {k for k in before if k.endswith((".u", ".v"))}


def test_the_gradient_is_that_of_the_quotient():
    weight = torch.randn(4, 3, dtype=torch.float64)
    network = SpectralNorm(MLP((3,), (4,), ())).double()
    layer = network.network.out
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(weight)
    step(network, 500)
    direction = torch.randn(4, 3, dtype=torch.float64)
    (got,) = torch.autograd.grad((layer.weight * direction).sum(), layer.parametrizations.weight.original)
    free = weight.clone().requires_grad_()
    (wanted,) = torch.autograd.grad((free / torch.linalg.svdvals(free)[0] * direction).sum(), free)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)


def test_a_normalised_network_starts_at_a_bias_and_comes_back_from_json():
    network = SpectralNorm(MLP((3,), (5,), (7,)))
    with torch.no_grad():
        network.start_at(torch.arange(5.0))
    torch.testing.assert_close(network.network.out.bias.detach(), torch.arange(5.0))
    again = rebuild(describe(network))
    again.load_state_dict(network.state_dict())
    x = torch.randn(4, 3)
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("kind", ["l2", "spectral_norm", "none"])
def test_every_kind_of_the_recipe_trains_and_is_the_same_after_saving(kind, tmp_path):
    data = load_data("digits")
    recipe = recipes.rae(data.spec, kind=kind, latent_dim=4, hidden=(32,), code_weight=1e-3, decoder_weight=1e-3)
    run = fit(recipe, data, epochs=3, seed=1, progress=False)
    scores = [row["penalized"] for row in run.history if row["split"] == "valid"]
    assert scores[-1] < scores[0]
    if kind == "spectral_norm":
        torch.testing.assert_close(largest(run.model), torch.ones(2), rtol=0.02, atol=0)
    again = load(save(run.model, tmp_path / "model"))
    x = data.test.matching(recipe.spec).batch(slice(0, 9)).x
    assert torch.equal(again.reconstruct(x), run.model.reconstruct(x))


def test_its_samples_come_from_a_mixture_fitted_to_the_codes():
    data = load_data("digits")
    recipe = recipes.rae(data.spec, kind="l2", latent_dim=3, hidden=(32,), components=4, decoder_weight=1e-3)
    run = fit(recipe.replace(after=()), data, epochs=5, seed=1, progress=False)
    (phase,) = recipe.after
    model = fit_prior(run.model, phase.priors, data, epochs=2)
    prior = model.groups[0].prior_part
    assert isinstance(prior, MixtureOfNormals)
    assert prior.logits.shape == (4,)
    rows = data.train.matching(recipe.spec)
    codes, drawn = model.encode(rows.batch(slice(None)).x), prior(None, None).sample((4000,))
    torch.testing.assert_close(drawn.std(0), codes.std(0), rtol=0.15, atol=0)
    assert not torch.allclose(codes.std(0), torch.ones(3), rtol=0.15), "N(0, I) would not pass"
