"""Groups below another one: shapes, densities that add up, and what they refuse."""

import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import Incompatible, ShapeError
from lowerbound.core.kl import kl_divergence
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import inference_parameters
from lowerbound.core.types import Infer
from lowerbound.core.walk import from_posterior
from lowerbound.families import Bernoulli, Normal
from lowerbound.families.onehot import OneHot
from lowerbound.families.relaxed import RelaxedCategorical
from lowerbound.groups import Beside, Conditioned, Flat
from lowerbound.networks import MLP
from lowerbound.priors import ConditionalPrior, StandardNormal
from lowerbound.priors.discrete import RelaxedUniform, UniformOneHot

K, B, D, L, C, F = 5, 7, 6, 2, 3, 4
X = torch.bernoulli(torch.full((B, D), 0.5), generator=torch.Generator().manual_seed(1))


class Borrowed(torch.nn.Module):
    support = "real"
    borrows = True

    def forward(self, y: torch.Tensor | None, infer: Infer | None):
        raise AssertionError("a refused group must not be run")


def joint():
    torch.manual_seed(1)
    z, c, px = Normal((L,)), RelaxedCategorical((C,), 0.5), Bernoulli((D,))
    encoder = Encoder([MLP((D,), part.params) for part in (z, c)])
    groups = [Flat(z, StandardNormal((L,))), Beside(c, RelaxedUniform((C,), 0.5))]
    return lb.VAE(encoder, groups, Conditional(MLP((L + C,), px.params), px))


def conditioned(*, keeps_state):
    torch.manual_seed(2)
    label, z, px = OneHot((C,)), Normal((L,)), Bernoulli((D,))
    encoder = Encoder([MLP((D,), (C,)), MLP((D,), (F,))])
    prior = ConditionalPrior(Conditional(MLP((C,), z.params, hidden=()), z))
    below = Conditioned(MLP((F + C,), z.params), z, prior, keeps_state=keeps_state)
    decoder = MLP((L + C * keeps_state,), px.params)
    return lb.VAE(encoder, [Flat(label, UniformOneHot((C,))), below], Conditional(decoder, px))


def test_latents_side_by_side_add_their_divergences_and_reach_the_decoder_together():
    model = joint()
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    trace = model(lb.Batch(X), K)
    z, c = trace.latents
    torch.testing.assert_close(seen[0], torch.cat([z.z, c.z], -1))
    assert seen[0].shape == (K, B, L + C)
    torch.testing.assert_close(c.z.sum(-1), torch.ones(K, B))
    closed = torch.distributions.kl_divergence(
        torch.distributions.Normal(z.q.mean, z.q.stddev), torch.distributions.Normal(0.0, 1.0)
    ).sum(-1)
    torch.testing.assert_close(z.kl, closed.expand(K, B))
    relaxed = torch.distributions.RelaxedOneHotCategorical
    temperature = torch.tensor(0.5)
    log_q = relaxed(temperature, logits=c.q.logits).log_prob(c.z)
    log_p = relaxed(temperature, logits=torch.zeros(C)).log_prob(c.z)
    torch.testing.assert_close(c.kl, log_q - log_p, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(trace.terms()["rate"], (closed + (log_q - log_p).mean(0)), rtol=1e-4, atol=1e-4)


def test_the_order_of_latents_side_by_side_does_not_matter_to_the_bound():
    model = joint()
    other = lb.VAE(
        Encoder([model.encoder.networks[1], model.encoder.networks[0]]),
        [Flat(RelaxedCategorical((C,), 0.5), RelaxedUniform((C,), 0.5)), Beside(Normal((L,)), StandardNormal((L,)))],
        Conditional(MLP((L + C,), (D,)), Bernoulli((D,))),
    )
    other.decoder.load_state_dict(model.decoder.state_dict())
    first = other.decoder.network.body[0].weight.data
    first.copy_(torch.cat([first[:, L:], first[:, :L]], 1))
    trace = model(lb.Batch(X), K)
    zs = [latent.z for latent in trace.latents]

    def swapped(i, q, p, shape):
        return zs[1 - i], q.log_prob(zs[1 - i]), True

    torch.testing.assert_close(other(lb.Batch(X), K, swapped).log_w, trace.log_w)


@pytest.mark.parametrize("keeps_state", [True, False])
def test_a_conditioned_latent_reads_the_state_in_posterior_and_prior(keeps_state):
    model = conditioned(keeps_state=keeps_state)
    trace = model(lb.Batch(X), K, from_posterior)
    label, z = trace.latents
    assert z.q.batch_shape == z.p.batch_shape == (K, B)
    feature, group = model.encoder(X)[1], model.groups[1]
    for k in range(K):
        given = torch.cat([feature, label.z[k]], 1)
        torch.testing.assert_close(z.q.mean[k], group.posterior_family(group.network(given)).mean)
        p = group.prior_part.conditional(label.z[k])
        torch.testing.assert_close(z.p.mean[k], p.mean)
        torch.testing.assert_close(z.kl[k], kl_divergence(group.posterior_family(group.network(given)), p))
        state = torch.cat([z.z[k], label.z[k]], 1) if keeps_state else z.z[k]
        torch.testing.assert_close(trace.px.mean[k], model.decoder(state).mean)


def test_decode_takes_the_label_and_the_prior_mean_of_what_lies_below():
    model = conditioned(keeps_state=False)
    labels = torch.eye(C)
    mean = model.groups[1].prior_part.conditional(labels).mean
    torch.testing.assert_close(model.decode(labels), model.decoder(mean).mean)
    assert model.encode(X).shape == (B, C)
    assert model.reconstruct(X).shape == model.sample(B, seed=1).shape == (B, D)


def test_the_networks_of_a_conditioned_posterior_belong_to_inference():
    model = conditioned(keeps_state=True)
    inference = {id(p) for p in inference_parameters(model)}
    assert {id(p) for p in model.groups[1].network.parameters()} <= inference
    assert not {id(p) for p in model.groups[1].prior_part.parameters()} & inference


def test_what_cannot_be_below_is_refused():
    with pytest.raises(Incompatible, match="borrowed posterior x lower group"):
        Beside(Normal((L,)), Borrowed())
    with pytest.raises(Incompatible, match="Conditioned"):
        Conditioned(MLP((F,), (2, L)), Normal((L,)), Borrowed(), keeps_state=False)
    with pytest.raises(ShapeError, match="a vector"):
        Beside(OneHot((2, C)), UniformOneHot((2, C)))
    with pytest.raises(ShapeError, match="a vector"):
        Conditioned(MLP((F,), (L,)), Normal((L,)), StandardNormal((L,)), keeps_state=False)
