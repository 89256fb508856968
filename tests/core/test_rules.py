"""Each rule refuses by its name and with its reason, and parts that fit are not refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lowerbound import from_arrays, recipes
from lowerbound.core.compose import composed
from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Conditional, Encoder, Family
from lowerbound.core.recipe import Recipe
from lowerbound.core.rules import RULES
from lowerbound.core.spec import Column, DataSpec
from lowerbound.families import (
    Bernoulli,
    Categorical,
    Delta,
    FullNormal,
    GreyBernoulli,
    Normal,
    OneHot,
    SharedNormal,
    VonMisesFisher,
    WrappedNormal,
)
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import (
    ELBO,
    PIWAE,
    RAE,
    Corrupt,
    DReG,
    Hamiltonian,
    LabelELBO,
    Reconstruction,
    TotalCorrelation,
)
from lowerbound.posteriors import Planar
from lowerbound.priors import (
    HypersphericalUniform,
    LearnedNormal,
    StandardNormal,
    UniformCodes,
    UniformOneHot,
    VampPrior,
    WrappedNormalPrior,
)

LATENT, SHAPE = 2, (1, 5, 4)


class UniformPrior(nn.Module):
    """A prior on the unit cube, of which only the support is ever asked."""

    support = "unit"

    def forward(self, y, infer):
        raise AssertionError("a refused recipe must not be run")


class BorrowedPrior(UniformPrior):
    """A prior made of posteriors, of which only that is ever asked."""

    borrows = True


def grey(**options):
    return from_arrays(np.random.default_rng(1).random((20, 5, 4), np.float32), **options).spec


def binary(**options):
    return from_arrays(np.random.default_rng(1).integers(0, 2, (20, 5, 4)), **options).spec


ABC = ("a", "b", "c")


def mixed(*, missing=False):
    columns = (
        Column("size", "numeric", "double", missing=missing),
        Column("city", "category", "string", categories=("a", "b", "c")),
    )
    return DataSpec("people", (2,), "table", "mixed", 20, binarize="none", columns=columns)


def assemble(spec, likelihood: Family, posterior: Family, objective, prior=None):
    encoder = Encoder([MLP(spec.shape, posterior.params, (7,))])
    decoder = Conditional(MLP((LATENT,), likelihood.params, (7,)), likelihood)
    group = Flat(posterior, prior or StandardNormal((LATENT,)))
    return Recipe(spec.settle(likelihood.support), encoder, (group,), decoder, objective)


def labelled():
    return from_arrays(np.random.default_rng(1).integers(0, 2, (20, 5, 4)), np.arange(20) % 3).spec


def words():
    return DataSpec("words", (4,), "sequence", "symbols", 20, binarize="none", vocabulary=("a", "b"))


def answers():
    columns = tuple(Column(name, "boolean", "bool", missing=True) for name in ("one", "other"))
    return DataSpec("answers", (2,), "table", "binary", 20, binarize="none", columns=columns)


class RateOnly(Reconstruction):
    """An objective without a density that does reach the prior, of which only the traits are ever asked."""

    learns_prior = True


def borrowed_by_cvae():
    recipe = recipes.cvae(labelled(), latent_dim=LATENT, hidden=(7,))
    return composed(recipe, prior=VampPrior((LATENT,), SHAPE, 3))


BROKEN = {
    "point posterior x bound": lambda: assemble(binary(), Bernoulli(SHAPE), Delta((LATENT,)), ELBO()),
    "support of data x likelihood": lambda: assemble(
        grey(binarize="none"), Bernoulli(SHAPE), Normal((LATENT,)), ELBO()
    ),
    "levels of data x likelihood": lambda: assemble(
        from_arrays(np.arange(20 * 20, dtype=np.uint8).reshape(20, 5, 4), binarize="none").spec,
        Categorical(SHAPE, levels=17),
        Normal((LATENT,)),
        ELBO(),
    ),
    "support of posterior x prior": lambda: assemble(
        binary(), Bernoulli(SHAPE), Normal((LATENT,)), ELBO(), UniformPrior()
    ),
    "space of posterior x prior": lambda: assemble(
        binary(), Bernoulli(SHAPE), WrappedNormal((LATENT,), -1.0), ELBO(), WrappedNormalPrior((LATENT,), -2.0)
    ),
    "point likelihood": lambda: assemble(binary(), Delta(SHAPE), Normal((LATENT,)), ELBO()),
    "discrete posterior x density": lambda: assemble(binary(), Bernoulli(SHAPE), Bernoulli((LATENT,)), ELBO()),
    "corruption x categories": lambda: recipes.denoising_vae(mixed(), latent_dim=LATENT, hidden=(7,)),
    "missing cells x encoder": lambda: assemble(
        replace(mixed(missing=True), support="real"), SharedNormal((2,)), Normal((LATENT,)), ELBO()
    ),
    "two players x shared weights": lambda: assemble(
        binary(), Bernoulli(SHAPE), Normal((LATENT,)), PIWAE(), BorrowedPrior()
    ),
    "second pass x dropout": lambda: recipes.mnist_vae_2017(grey(), latent_dim=LATENT, hidden=7).replace(
        objective=DReG(2)
    ),
    "draws without gradient": lambda: assemble(
        binary(), Bernoulli(SHAPE), OneHot((LATENT,)), ELBO(), UniformOneHot((LATENT,))
    ),
    "sum over all values": lambda: assemble(labelled(), Bernoulli(SHAPE), Normal((LATENT,)), LabelELBO()),
    "gradient moves x latents": lambda: assemble(
        binary(), Bernoulli(SHAPE), VonMisesFisher((LATENT,)), Hamiltonian(), HypersphericalUniform((LATENT,))
    ),
    "scores only its draws": lambda: assemble(binary(), Bernoulli(SHAPE), Planar((LATENT,)), DReG(3)),
    "dimensions x joint posterior": lambda: assemble(
        binary(), Bernoulli(SHAPE), FullNormal((LATENT,)), TotalCorrelation()
    ),
    "prior x objective": lambda: assemble(
        binary(), Bernoulli(SHAPE), Delta((LATENT,)), Reconstruction(), LearnedNormal((LATENT,))
    ),
    "point x prior of posteriors": lambda: assemble(
        binary(), Bernoulli(SHAPE), Delta((LATENT,)), RateOnly(), VampPrior((LATENT,), SHAPE, 3)
    ),
    "condition x prior of posteriors": lambda: borrowed_by_cvae(),
    "pseudo-inputs x categories": lambda: recipes.vamp(mixed(), latent_dim=LATENT, hidden=(7,)),
    "mean x symbols": lambda: composed(recipes.sequence_vae(words()), objective=RAE()),
    "missing cells x likelihood": lambda: recipes.sequence_vae(answers()),
    "codes x objective": lambda: recipes.vq_vae(binary()).replace(objective=ELBO(num_samples=2)),
    "codes x prior": lambda: composed(recipes.vq_vae(binary()), prior=UniformCodes((1, 1, 1), 7)),
    "condition x labels": lambda: recipes.cvae(binary(), latent_dim=LATENT, hidden=(7,)),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_fires_by_its_name_with_its_reason(rule):
    assert rule.name in BROKEN, "write the combination that breaks the new rule into BROKEN"
    with pytest.raises(Incompatible) as caught:
        BROKEN[rule.name]()
    message = str(caught.value)
    assert caught.value.exit_code == 2
    for part in (rule.name, rule.reason, rule.fix):
        assert part in message


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_fires_where_parts_fit(rule):
    for spec, likelihood in ((binary(), Bernoulli(SHAPE)), (grey(), Bernoulli(SHAPE)), (grey(), SharedNormal(SHAPE))):
        recipe = assemble(spec, likelihood, Normal((LATENT,)), ELBO())
        model, objective = recipe.build()
        assert rule.broken(model, objective, recipe.spec) is None


@pytest.mark.parametrize("objective", [ELBO(), Corrupt(ELBO(), nn.Identity())], ids=["ELBO", "Corrupt(ELBO)"])
def test_a_point_posterior_is_refused_by_every_bound_and_allowed_without_one(objective):
    with pytest.raises(Incompatible, match="Delta"):
        assemble(binary(), Bernoulli(SHAPE), Delta((LATENT,)), objective)
    model, _ = assemble(binary(), Bernoulli(SHAPE), Delta((LATENT,)), Reconstruction()).build()
    assert not model.has_density


@pytest.mark.parametrize(
    ("spec", "likelihood", "fits"),
    [
        (grey(), Bernoulli(SHAPE), True),  # dynamic binarisation
        (grey(binarize="threshold"), Bernoulli(SHAPE), True),
        (grey(binarize="none"), Bernoulli(SHAPE), False),
        (grey(binarize="none"), GreyBernoulli(SHAPE), True),
        (grey(binarize="none"), SharedNormal(SHAPE), True),
        (from_arrays(torch.randn(9, 1, 5, 4)).spec, Bernoulli(SHAPE), False),
        (from_arrays(torch.randn(9, 1, 5, 4)).spec, GreyBernoulli(SHAPE), False),
        (from_arrays(255 * torch.rand(9, 1, 5, 4)).spec, Bernoulli(SHAPE), False),
    ],
)
def test_a_likelihood_takes_only_data_in_its_support(spec, likelihood, fits):
    if fits:
        assert assemble(spec, likelihood, Normal((LATENT,)), ELBO()).spec.shape == SHAPE
    else:
        with pytest.raises(Incompatible, match="support of data x likelihood"):
            assemble(spec, likelihood, Normal((LATENT,)), ELBO())


@pytest.mark.parametrize("objective", [ELBO(), Reconstruction()], ids=["ELBO", "Reconstruction"])
def test_a_point_likelihood_is_refused(objective):
    # log p(x|z) of a point is +inf or -inf: neither a bound nor a distortion can be made of it.
    with pytest.raises(Incompatible, match="Delta"):
        assemble(binary(), Delta(SHAPE), Normal((LATENT,)), objective)


@pytest.mark.parametrize("family", [Bernoulli, GreyBernoulli])
def test_a_discrete_posterior_is_refused_with_a_prior_density(family):
    # q has masses and p a density, so log q - log p compares different measures; and z has no path for a gradient.
    with pytest.raises(Incompatible):
        assemble(binary(), Bernoulli(SHAPE), family((LATENT,)), ELBO())


def test_rules_are_checked_again_when_a_part_is_replaced():
    recipe = assemble(binary(), Bernoulli(SHAPE), Normal((LATENT,)), Reconstruction())
    assert recipe.replace(name="other").name == "other"
    with pytest.raises(Incompatible, match="support of data"):
        recipe.replace(spec=grey(binarize="none"))
