"""Mixtures: against torch's, and the priors made of them: mixture of normals, VampPrior, exemplars."""

import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint as again

import lowerbound as lb
from lowerbound.cli.parts import Chosen, with_parts
from lowerbound.core.compose import composed
from lowerbound.core.distribution import Distribution
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.types import Batch, Lent
from lowerbound.families import Bernoulli, Normal, OneHot, VonMisesFisher, mixture
from lowerbound.families.mixture import Mixture
from lowerbound.families.normal import DiagonalNormal
from lowerbound.priors import ExemplarPrior, LearnedNormal, MixtureOfNormals, VampPrior

M, D = 7, 3


class Opaque(Distribution):
    """A diagonal normal that `Mixture` cannot know as one: it must take the general way."""

    def __init__(self, inner):
        self.inner = inner
        super().__init__(inner.batch_shape, inner.event_shape)

    mean = property(lambda self: self.inner.mean)
    variance = property(lambda self: self.inner.variance)

    def sample(self, sample_shape=()):
        return self.inner.sample(sample_shape)

    def log_prob(self, value, mask=None):
        return self.inner.log_prob(value, mask)


def parts(*lead, dtype=torch.float64):
    loc = torch.randn(*lead, M, D, dtype=dtype)
    return loc, 0.2 + torch.rand(*lead, M, D, dtype=dtype), torch.randn(*lead, M, dtype=dtype)


def torchs(loc, scale, logits):
    normals = torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), normals)


@pytest.mark.parametrize("wrap", [lambda p: p, Opaque], ids=["normals", "any"])
@pytest.mark.parametrize("lead", [(), (4,), (2, 4)], ids=str)
def test_density_mean_and_variance_are_those_of_torch(wrap, lead):
    loc, scale, logits = parts(*lead)
    ours, theirs = Mixture(wrap(DiagonalNormal(loc, scale, 1)), logits), torchs(loc, scale, logits)
    x = torch.randn(5, *lead, D, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)
    assert ours.sample((6, 5)).shape == (6, 5, *lead, D)


def test_weights_of_each_row_meet_components_that_all_rows_share():
    """x `[K, B, *event]`, components `[M]`, weights `[B, M]`; an event of two axes."""
    loc, scale = torch.randn(M, 2, 3).double(), 0.3 + torch.rand(M, 2, 3).double()
    log_weights, x = torch.randn(4, M).double(), torch.randn(5, 4, 2, 3).double()
    together = Mixture(DiagonalNormal(loc, scale, 2), log_weights)
    assert (together.batch_shape, together.event_shape) == ((4,), (2, 3))
    assert together.sample((6,)).shape == (6, 4, 2, 3)
    for b in range(4):
        alone = torchs(loc.flatten(1), scale.flatten(1), log_weights[b])
        torch.testing.assert_close(together.log_prob(x)[:, b], alone.log_prob(x[:, b].flatten(1)))
        torch.testing.assert_close(together.mean[b].flatten(), alone.mean)
        torch.testing.assert_close(together.variance[b].flatten(), alone.variance)


def test_single_precision_is_exact_where_scales_are_tiny_beside_the_means():
    """Means of about 30 with scales of 0.001: expanded squares in float32 would be wrong by thousands of nats."""
    loc, scale, logits = torch.randn(M, 40) * 30, torch.full((M, 40), 1e-3), torch.zeros(M)
    x = loc[2] + 1e-3 * torch.randn(5, 40)
    ours = Mixture(DiagonalNormal(loc, scale, 1), logits).log_prob(x)
    exact = torchs(loc.double(), scale.double(), logits.double()).log_prob(x.double())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=1e-4)
    naive = (
        -0.5 * ((x / scale[0]) ** 2).sum(1) + (x / scale[0] ** 2) @ loc[2] - 0.5 * (loc[2] / scale[0]).square().sum()
    )
    assert float((naive - (-0.5 * ((x - loc[2]) / scale[0]).square().sum(1))).abs().max()) > 1  # negative control


def test_values_scored_in_parts_have_the_same_densities_and_gradients(monkeypatch):
    """Components of a flow, 5 x 4 values, 3 at a time; the last part is smaller."""
    torch.manual_seed(3)
    family = lb.posteriors.MAF((D,), hidden=(8,), context=2).double()
    params, x = torch.randn(M, *family.params).double(), torch.randn(5, 4, D).double()

    def density_and_gradients():
        leaves = [t.clone().requires_grad_() for t in (params, x)]
        log_prob = Mixture(family(leaves[0]), torch.arange(M).double()).log_prob(leaves[1])
        return [log_prob, *torch.autograd.grad(log_prob.square().sum(), [*leaves, *family.parameters()])]

    whole = density_and_gradients()
    taken = []
    monkeypatch.setattr(mixture, "_SCORED_AT_ONCE", 3 * M * D)
    monkeypatch.setattr(
        mixture, "checkpoint", lambda call, part, **how: taken.append(len(part)) or again(call, part, **how)
    )
    parts = density_and_gradients()
    assert taken == [3, 3, 3, 3, 3, 3, 2]
    torch.testing.assert_close(parts, whole)


def test_masked_cells_are_integrated_out():
    loc, scale, logits = parts()
    mask = torch.tensor([1.0, 0.0, 1.0])
    x = torch.randn(5, D).double()
    x[:, 1] = torch.nan
    kept = Mixture(DiagonalNormal(loc, scale, 1), logits).log_prob(x, mask)
    torch.testing.assert_close(kept, torchs(loc[:, ::2], scale[:, ::2], logits).log_prob(x[:, ::2]))


@pytest.mark.parametrize("wrap", [lambda p: p, Opaque], ids=["normals", "any"])
def test_draws_have_the_density(wrap, monkeypatch):
    """20,000 draws of one value against the exact distribution function; the false-fail rate of the bound is 1e-7."""
    monkeypatch.setattr("lowerbound.families.mixture._AT_ONCE", 3 * 777)  # drawn in pieces
    loc, scale, logits = (
        torch.tensor(v, dtype=torch.float64) for v in ([-2.0, 0.5, 3.0], [0.3, 1.0, 0.5], [0.0, 1, -1])
    )
    draws = Mixture(wrap(DiagonalNormal(loc[:, None], scale[:, None], 1)), logits).sample((20_000,))[:, 0].sort().values
    ranks = torch.arange(1, 20_001) / 20_000

    def distance(weights):
        return float(
            (
                torchs(loc[:, None], scale[:, None], weights).component_distribution.base_dist.cdf(
                    draws[:, None, None]
                )[..., 0]
                @ weights.softmax(0)
                - ranks
            )
            .abs()
            .max()
        )

    bound = math.sqrt(math.log(2 / 1e-7) / 40_000) + 1 / 20_000
    assert distance(logits) < bound
    assert distance(torch.zeros(3).double()) > bound  # other weights are told apart


class OnACircle(Opaque):
    """Stands for a family whose mean lies outside its support."""

    centre = property(lambda self: torch.nn.functional.normalize(self.inner.mean, dim=-1))


def test_the_centre_is_that_of_the_heaviest_component_where_the_mean_is_no_value():
    loc, scale, logits = parts(2)
    mixture = Mixture(OnACircle(DiagonalNormal(loc, scale, 1)), logits)
    heaviest = torch.stack([loc[b, logits[b].argmax()] for b in range(2)])
    torch.testing.assert_close(mixture.centre, heaviest / heaviest.norm(dim=1, keepdim=True))
    plain = Mixture(DiagonalNormal(loc, scale, 1), logits)
    torch.testing.assert_close(plain.centre, plain.mean)


def test_a_mixture_of_values_without_gradient_is_one_too():
    each, logits = torch.tensor([[3.0, -3.0], [-3.0, 3.0]]), torch.tensor([0.0, 1.0])
    mixture = Mixture(Bernoulli((2,))(each), logits)
    outcomes = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    torch.testing.assert_close(mixture.log_prob(outcomes).exp().sum(), torch.tensor(1.0))
    assert set(mixture.sample((50,)).unique().tolist()) == {0.0, 1.0}


def test_a_mixture_of_normals_starts_with_the_moments_of_the_standard_normal():
    torch.manual_seed(1)
    p = MixtureOfNormals((2,), components=4000)(None, None)
    torch.testing.assert_close(p.mean, torch.zeros(2), atol=0.1, rtol=0)  # 8 standard errors
    torch.testing.assert_close(p.variance, torch.ones(2), atol=0.1, rtol=0)


def test_a_mixture_of_normals_starts_at_the_clusters_of_codes():
    centres = torch.tensor([[-8.0, 0.0], [8.0, 3.0], [0.0, 9.0]])
    z = centres.repeat(200, 1) + 0.1 * torch.randn(600, 2)
    prior = MixtureOfNormals((2,), components=3)
    before = float(prior(None, None).log_prob(z).mean().detach())
    with torch.no_grad():
        prior.start_from_codes(z)
    p = prior(None, None)
    exact = -math.log(3) - 2 * math.log(0.1) - math.log(2 * math.pi) - 1  # of the clusters themselves
    assert before < exact - 10
    assert float(p.log_prob(z).mean().detach()) > exact - 2
    assert sorted(p.components.mean[:, 0].round().tolist()) == [-8, 0, 8]


def test_a_learned_normal_starts_at_the_moments_of_codes():
    z = torch.randn(50, 3) * 2 + 5
    prior = LearnedNormal((3,))
    with torch.no_grad():
        prior.start_from_codes(z)
    torch.testing.assert_close(prior(None, None).mean, z.mean(0))
    torch.testing.assert_close(prior(None, None).variance, z.var(0, unbiased=False))


def vamp_model(prior):
    data = lb.load_data("digits")
    recipe = lb.recipes.vamp(data.spec, latent_dim=2, hidden=(5,), pseudo_inputs=4)
    made = recipe.replace(groups=[lb.groups.Flat(recipe.groups[0].posterior_family, prior)])
    return made, data


def test_the_rate_of_a_vamp_prior_teaches_pseudo_inputs_and_encoder_and_no_weight_is_stored_twice():
    recipe, data = vamp_model(VampPrior((2,), (1, 8, 8), 4, "unit"))
    model, objective = recipe.build()
    batch = data.train.matching(recipe.spec).batch(slice(0, 9))
    rate = objective(model.train(), batch, torch.tensor(0.0)).terms["rate"].mean()
    raw, *encoder = torch.autograd.grad(rate, [model.groups[0].prior_part.raw, *model.encoder.parameters()])
    assert float(raw.abs().min()) > 0
    detached = gradient_with_fixed_posteriors(model)
    assert not torch.allclose(encoder[0], detached)  # the prior's part reaches the encoder
    names = list(model.state_dict())
    assert [n for n in names if n.startswith("groups.")] == ["groups.0.prior_part.raw"]
    pointers = {t.data_ptr() for t in model.state_dict().values()}
    assert len(pointers) == len(names)


def gradient_with_fixed_posteriors(model):
    """The gradient of the same rate for the first encoder weight, with the prior's posteriors held fixed."""
    data = lb.load_data("digits")
    batch = data.train.matching(model.spec).batch(slice(0, 9))
    q = model.infer(batch.x)
    z, log_q = q.rsample_and_log_prob()
    p = model.groups[0].prior_part(None, lambda u: model.infer(u.detach()))
    fixed = Mixture(DiagonalNormal(p.components.loc.detach(), p.components.scale.detach(), 1), p.log_weights)
    rate = (log_q - fixed.log_prob(z)).mean()
    return torch.autograd.grad(rate, next(model.encoder.parameters()))[0]


def test_a_vamp_prior_is_the_average_of_the_posteriors_of_its_pseudo_inputs():
    prior = VampPrior((2,), (2, 3), pseudo_inputs=5).double()
    weight, x = torch.randn(6, 4).double(), torch.randn(3, 7, 2).double()

    def infer(u, y=None, mask=None):
        return Normal((2,))((u.flatten(1) @ weight).unflatten(1, (2, 2)))

    each = torch.stack([infer(prior.raw[m : m + 1]).log_prob(x) for m in range(5)], -1)
    torch.testing.assert_close(prior(None, infer).log_prob(x), each.logsumexp(-1) - math.log(5))


def test_pseudo_inputs_start_at_examples_and_stay_in_the_range_of_the_data():
    examples = Batch(torch.rand(3, 4), seen=torch.rand(3, 4))
    prior = VampPrior((2,), (4,), 5, "unit")
    with torch.no_grad():
        prior.start_from(examples)
        torch.testing.assert_close(prior.inputs[:3], examples.seen.clamp(0.02, 0.98))
        assert not torch.equal(prior.raw[0], prior.raw[3])  # used twice, moved apart
        prior.raw.mul_(100)
        assert 0 <= float(prior.inputs.min()) <= float(prior.inputs.max()) <= 1
    real = VampPrior((2,), (4,), 2)
    with torch.no_grad():
        real.start_from(Batch(torch.full((2, 4), -7.0)))
    assert real.inputs.unique().tolist() == [-7.0]


def infer_normal(u, y=None, mask=None):
    return Normal((2,))(torch.stack([2 * u[:, :2], u[:, 1:]], 1))


def test_an_exemplar_is_left_out_of_its_own_prior_in_training_and_nowhere_else():
    prior = ExemplarPrior((2,), (3,), exemplars=5).double()
    x, places = torch.randn(5, 3).double(), torch.tensor([8, 2, 9, 4, 6])
    with torch.no_grad():
        prior.start_from(Batch(x, index=places))
        prior.around.log_variance.fill_(-0.7)
    z, index = torch.randn(4, 3, 2).double(), torch.tensor([9, 1, 8])  # row 1 is no exemplar
    p = prior(None, Lent(infer_normal, index))
    each = torch.distributions.Normal(2 * x[:, :2], math.sqrt(math.exp(-0.7) + 1e-6)).log_prob(z[:, :, None]).sum(-1)
    for b, kept in enumerate(([0, 1, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4])):
        wanted = each[:, b, kept].logsumexp(-1) - math.log(len(kept))
        torch.testing.assert_close(p.log_prob(z)[:, b], wanted)
    everyone = prior(None, Lent(infer_normal, None))
    torch.testing.assert_close(everyone.log_prob(z), each.logsumexp(-1) - math.log(5))
    assert everyone.batch_shape == ()


def test_training_batches_name_the_rows_that_exemplars_are():
    data = lb.load_data("digits")
    recipe = lb.recipes.exemplar_vae(data.spec, latent_dim=2, hidden=(5,), exemplars=data.spec.size)
    run = lb.fit(recipe, data, epochs=1, progress=False)
    prior, rows = run.model.groups[0].prior_part, data.train.matching(run.model.spec)
    assert sorted(prior.places.tolist()) == sorted(rows.places.tolist())
    batch = rows.batch(torch.arange(11))
    run.model.train()
    latent = run.model(batch).latents[0]
    assert latent.p.batch_shape == (11,)
    assert (latent.p.log_weights == -torch.inf).sum(1).tolist() == [1] * 11
    run.model.eval()
    assert run.model(batch).latents[0].p.batch_shape == ()


def test_exemplars_keep_which_cells_were_seen():
    prior = ExemplarPrior((2,), (3,), exemplars=2, masked=True)
    mask, masks = torch.tensor([[1.0, 0, 1], [0, 1, 1]]), []
    prior.start_from(Batch(torch.randn(2, 3), mask=mask))

    def infer(u, y=None, mask=None):
        masks.append(mask)
        return infer_normal(u)

    prior(None, infer)
    assert torch.equal(masks[0], mask)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MixtureOfNormals((2,), 0),
        lambda: VampPrior((2,), (3,), 0),
        lambda: ExemplarPrior((2,), (3,), 1),
    ],
)
def test_impossible_numbers_are_refused(make):
    with pytest.raises(UsageError):
        make()


def test_a_prior_made_of_posteriors_says_when_it_was_lent_none():
    with pytest.raises(ShapeError, match="lent no posterior"):
        VampPrior((2,), (3,), 4)(None, None)


def sphere_recipe(prior):
    spec = lb.load_data("digits").spec
    return composed(lb.recipes.vae(spec, latent_dim=3, hidden=(5,)), posterior=VonMisesFisher((3,)), prior=prior)


def test_only_a_mixture_of_posteriors_lies_where_they_do():
    recipe = sphere_recipe(VampPrior((3,), (1, 8, 8), 4, "unit"))
    assert recipe.groups[0].prior_support == "sphere"
    for prior in (ExemplarPrior((3,), (1, 8, 8), 4), MixtureOfNormals((3,), 2)):
        with pytest.raises(Incompatible, match="support of posterior x prior"):
            sphere_recipe(prior)
    assert lb.groups.Flat(OneHot((3,)), VampPrior((3,), (1, 8, 8), 4)).prior_discrete
    assert not lb.groups.Flat(Normal((3,)), VampPrior((3,), (1, 8, 8), 4)).prior_discrete


def test_what_hides_in_missing_cells_does_not_enter_a_prior():
    mask = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    x = torch.where(mask.bool(), torch.rand(2, 3), torch.nan)
    for prior in (
        VampPrior((2,), (3,), 2),
        VampPrior((2,), (3,), 2, "unit"),
        ExemplarPrior((2,), (3,), 2, masked=True),
    ):
        with torch.no_grad():
            prior.start_from(Batch(x, mask=mask))
        assert bool(prior.inputs.isfinite().all())
        torch.testing.assert_close(prior.inputs[mask.bool()], x[mask.bool()].clamp(0.02, 0.98), atol=0.021, rtol=0)


def test_a_mixture_with_more_components_than_codes_starts_at_them_too():
    z = 50 + torch.randn(6, 2)
    prior = MixtureOfNormals((2,), components=9)
    with torch.no_grad():
        prior.start_from_codes(z)
    p = prior(None, None)
    torch.testing.assert_close(p.mean, z.mean(0), atol=1e-3, rtol=0)
    assert float(p.log_prob(z).mean().detach()) > -6


def test_the_values_of_pseudo_inputs_follow_from_the_data():
    columns = (lb.Column("a", "numeric", "double"), lb.Column("b", "boolean", "bool"))
    for support, values, more in (("mixed", "real", {"columns": columns}), ("real", "real", {}), ("unit", "unit", {})):
        spec = lb.DataSpec("things", (2,), "table", support, 50, **more)
        recipe = lb.recipes.vae(spec, latent_dim=2, hidden=(4,))
        made = with_parts(recipe, spec, {"prior": Chosen("vamp", {"pseudo_inputs": 3})})
        assert made.groups[0].prior_part.values == values == lb.recipes.vamp(spec).groups[0].prior_part.values


def test_pseudo_inputs_of_categories_are_refused_by_name():
    columns = (lb.Column("a", "numeric", "double"), lb.Column("b", "category", "string", categories=("x", "y", "z")))
    spec = lb.DataSpec("things", (2,), "table", "mixed", 50, columns=columns)
    with pytest.raises(Incompatible, match="categories and symbols have no gradient"):
        lb.recipes.vamp(spec)
    assert lb.recipes.exemplar_vae(spec).groups[0].prior_part.wants == 50
