"""Ladders and stacks against closed forms: where everything is linear and normal, every importance weight is p(x)."""

import pytest
import torch
from linear_stack import LOW, RELATIONS, TOP, exact_ladder, exact_stack, log_p, some_x

from lowerbound import from_arrays, recipes
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.types import Batch
from lowerbound.core.walk import from_prior, mode, replay
from lowerbound.families import Laplace, Normal
from lowerbound.groups import Level, Top
from lowerbound.networks import MLP, ResNet
from lowerbound.objectives import IWAE, PIWAE, DReG
from lowerbound.posteriors import Direct, PrecisionWeighted, Residual
from lowerbound.priors import StandardNormal

K, B = 4, 6
every_relation = pytest.mark.parametrize("relation", RELATIONS, ids=lambda r: type(r).__name__)


@every_relation
@pytest.mark.parametrize("chained", [False, True])
def test_every_weight_of_an_exact_ladder_is_the_density(relation, chained):
    x = some_x(B)
    trace = exact_ladder(relation, chained=chained)(Batch(x), K)
    torch.testing.assert_close(trace.log_w, log_p(x).expand(K, B), rtol=1e-7, atol=1e-7)
    assert trace.latents[1].z.shape == (K, B, LOW)
    assert trace.latents[1].kl.std(0).min() > 1e-3  # it depends on the z above


def test_the_three_relations_are_one_posterior():
    x = some_x(B)
    one, *others = (exact_ladder(relation) for relation in RELATIONS)
    drawn = {i: latent.z for i, latent in enumerate(one(Batch(x), K).latents)}
    scores = [model(Batch(x), K, replay(drawn)).latents[1].log_q for model in (one, *others)]
    for score in scores[1:]:
        torch.testing.assert_close(score, scores[0], rtol=1e-7, atol=1e-7)


def test_every_weight_of_an_exact_stack_is_the_density():
    x = some_x(B)
    trace = exact_stack()(Batch(x), K)
    torch.testing.assert_close(trace.log_w, log_p(x).expand(K, B), rtol=1e-7, atol=1e-7)
    assert trace.latents[0].z.shape == (K, B, LOW + TOP)


def test_a_stack_knows_its_means_and_draws_from_its_prior():
    model, x = exact_stack(), some_x(B)
    z = model(Batch(x), 1, mode).latents[0].z
    low, top = exact_ladder(Direct()).infer(x).mean, z[0, :, LOW:]
    torch.testing.assert_close(top, low, rtol=1e-7, atol=1e-7)  # the mean of z_top given x, found from below or above
    torch.manual_seed(0)
    drawn = model.sample(20_000, show="draw")
    variance = torch.cat([model.groups[0].prior(None, None, None).sample((50_000,))[:, :LOW].var(0)])
    around = torch.tensor([0.8**2 + 0.7**2, 1.3**2 + 0.4**2, 1.1**2], dtype=torch.float64)
    # a variance of n normal draws has standard error sqrt(2 / n): 5 of them, false alarm below 1e-5 for all eight
    assert bool(((variance / around - 1).abs() < 5 * (2 / 50_000) ** 0.5).all())
    exact = torch.tensor([1.5, -0.6, 0.9, 0, 0]).double().square() * torch.nn.functional.pad(around, (0, 2)) + 0.25
    assert bool(((drawn.var(0) / exact - 1).abs() < 5 * (2 / 20_000) ** 0.5).all())


@every_relation
def test_a_ladder_without_data_draws_from_its_priors(relation):
    trace = exact_ladder(relation)(Batch(some_x(B)), K, from_prior)
    torch.testing.assert_close(trace.log_w, trace.log_px, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", [DReG(K), IWAE(K)], ids=["dreg", "iwae"])
def test_the_bound_of_an_exact_ladder_is_the_density(objective):
    x = some_x(B)
    outcome = objective(exact_ladder(PrecisionWeighted()), Batch(x), torch.zeros(()))
    torch.testing.assert_close(outcome.terms["iw_bound"], log_p(x), rtol=1e-7, atol=1e-7)


def test_levels_that_share_weights_with_their_prior_are_refused_two_players():
    spec = from_arrays(torch.rand(30, 8).double().round().numpy()).spec
    with pytest.raises(Incompatible, match="levels whose posterior reads the prior: the encoder and the prior share"):
        recipes.ladder_vae(spec, latent_dims=(2, 3), hidden=5).replace(objective=PIWAE(2, 3)).build()


def test_a_chain_of_networks_gives_each_group_its_own_output():
    below, above = MLP((4,), (3,), ()), MLP((3,), (2, 5), ())
    x = torch.randn(6, 4)
    top, low = Encoder([below, above], uses=(1, 0))(x)
    assert torch.equal(low, below(x))
    assert torch.equal(top, above(below(x)))
    with pytest.raises(ShapeError, match=r"MLP reads \(4,\), and MLP before it gives \(2, 5\)"):
        Encoder([above, below], uses=(1, 0))
    with pytest.raises(UsageError, match="numbers from 0 to 1"):
        Encoder([below, above], uses=(2, 0))


def test_misfits_are_named():
    family, other = Normal((2,)), Laplace((2,))
    p = Conditional(MLP((3,), family.params, ()), family)
    with pytest.raises(ShapeError, match=r"`down` of a level reads \(4,\)"):
        Level(p, family, Direct(), down=MLP((4,), (3,)))
    with pytest.raises(ShapeError, match=r"prior of a level is of shape \(2,\), its posterior of \(5,\)"):
        Level(p, Normal((5,)), Direct())
    with pytest.raises(ShapeError, match=r"MLP gives \(7,\) to a Normal"):
        Level(p, family, Direct(), MLP((3,), (7,)))
    with pytest.raises(Incompatible, match="Residual was given a Laplace posterior"):
        Level(p, other, Residual())
    with pytest.raises(ShapeError, match="`down` of a level reads"):
        Top(family, StandardNormal((2,)), MLP((3,), (3,)))
    with pytest.raises(Incompatible, match="put a Flat or a Top group above it"):
        Level(p, family, Direct()).prior(None, None, None)


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 17, 8), (2, 5, 5)])
def test_a_ladder_of_images_takes_any_size(shape):
    data = from_arrays((torch.rand(20, *shape) < 0.4).numpy().astype("uint8") * 255, binarize="threshold")
    recipe = recipes.vdvae(data.spec, levels=(2, 1, 2), channels=5, latent_channels=3)
    model, objective = recipe.build()
    batch = data.train.matching(recipe.spec).batch(slice(0, 4))
    trace = model(batch, 2)
    assert len(trace.latents) == 5
    sizes = [latent.z.shape[-2:] for latent in trace.latents]
    assert sizes[0] == sizes[1] == (shape[1] // 8 or 1, shape[2] // 8 or 1)
    assert sizes[3] == sizes[4] == (shape[1] // 2, shape[2] // 2)
    assert model.sample(3).shape == (3, *shape)
    assert bool(objective(model, batch, torch.zeros(())).losses["model"].isfinite())


def test_recipes_of_ladders_refuse_what_they_cannot_use():
    table = from_arrays(torch.rand(30, 8).numpy()).spec
    with pytest.raises(ShapeError, match="use `ladder_vae`"):
        recipes.vdvae(table)
    with pytest.raises(UsageError, match="two or more"):
        recipes.ladder_vae(table, latent_dims=(4,))
    with pytest.raises(UsageError, match="at least 1 at each scale"):
        recipes.vdvae(table, levels=(0, 1))


@pytest.mark.parametrize(("given", "made"), [((2, 7, 5), (3, 7, 5)), ((2, 7, 5), (3, 14, 11)), ((2, 9, 12), (1, 4, 3))])
def test_a_resnet_goes_from_any_size_to_any(given, made):
    network = ResNet(given, made, channels=4, blocks=2)
    assert network(torch.zeros(6, *given)).shape == (6, *made)
    with torch.no_grad():
        network.start_at(torch.full(made, 2.5))
    torch.testing.assert_close(network(torch.zeros(1, *given)).mean(), torch.tensor(2.5), rtol=0.2, atol=0.2)
