"""Combinations that cannot mean anything, refused by name when a recipe is built.

Each rule reads what parts declare about themselves, so this table needs to know no concrete part.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .distribution import Support, contains
from .errors import Incompatible
from .model import VAE, Family, Group, Network
from .objective import Objective
from .spec import DataSpec


@dataclass(frozen=True)
class Rule:
    """One refusal: `broken` returns the sentence that says what is wrong, or None; `reason` is the mathematics."""

    name: str
    reason: str
    fix: str
    broken: Callable[[VAE, Objective, DataSpec], str | None]


def _has_categories(spec: DataSpec) -> bool:
    of_modalities = any(m.spec.support == "onehot" or _has_categories(m.spec) for m in spec.modalities)
    return of_modalities or any(column.size > 1 for column in spec.modelled)


def _groups(model: VAE) -> list[Group]:
    return [g for g in model.groups if isinstance(g, Group)]


def _point_posterior(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    points = [g.posterior_family for g in _groups(model) if not g.posterior_family.has_density]
    if not points or not objective.needs_density:
        return None
    return f"{type(objective).__name__} cannot be used with a {type(points[0]).__name__} posterior"


def _point_likelihood(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    family = model.decoder.family
    points = not family.has_density
    return f"a {type(family).__name__} cannot be a likelihood" if points else None


def _discrete_posterior(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for group in _groups(model):
        family = group.posterior_family
        if family.has_density and family.discrete != group.prior_discrete:
            other = "a prior that has a density" if family.discrete else "a prior of discrete values"
            return f"a {type(family).__name__} posterior cannot be used with {other}"
    return None


def _no_gradient(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    drawn = [g.posterior_family for i, g in enumerate(_groups(model)) if i not in objective.enumerates]
    families = [family for family in drawn if not family.reparameterised]
    if not families or not objective.pathwise:
        return None
    return f"{type(objective).__name__} cannot be used with a {type(families[0]).__name__} posterior"


def _not_countable(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for i, group in enumerate(_groups(model)):
        family = group.posterior_family
        if i in objective.enumerates and (family.support != "onehot" or len(family.event_shape) != 1):
            return f"{type(objective).__name__} cannot be used with a {type(family).__name__} posterior"
    return None


def _not_movable(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    groups = _groups(model)
    if not objective.moves or (len(groups) == 1 and groups[0].posterior_family.support == "real"):
        return None
    other = f"{len(groups)} groups" if len(groups) > 1 else f"a {type(groups[0].posterior_family).__name__} posterior"
    return f"{type(objective).__name__} cannot be used with {other}"


def _only_own_draws(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    families = [(g, g.posterior_family) for g in _groups(model) if not g.posterior_family.rescorable]
    for group, family in families:
        if group.borrows:
            return f"a {type(family).__name__} posterior cannot be used with a prior made of posteriors"
        if objective.rescores:
            return f"a {type(family).__name__} posterior cannot be used with {type(objective).__name__}"
    return None


def _noisy_networks(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    noisy = any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    return f"{type(objective).__name__} cannot be used with dropout" if objective.rescores and noisy else None


def _not_factorised(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    families = [g.posterior_family for g in _groups(model) if not g.posterior_family.factorised]
    if not families or not objective.factorises:
        return None
    return f"a {type(families[0]).__name__} posterior cannot be used with {type(objective).__name__}"


def _shared_weights(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    if not objective.parts_players:
        return None
    groups = _groups(model)
    if any(g.borrows for g in groups):
        return f"{type(objective).__name__} cannot be used with a prior made of posteriors"
    shared = any(g.shares for g in groups)
    return f"{type(objective).__name__} cannot be used with levels whose posterior reads the prior" if shared else None


def _prior_left_behind(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    priors = [m for g in _groups(model) for name, m in g.named_children() if name == "prior_part"]
    learned = [p for p in priors if any(True for _ in p.parameters())]
    if objective.learns_prior or not learned:
        return None
    return f"a {type(learned[0]).__name__} prior cannot be used with {type(objective).__name__}"


def _borrowed_point(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for group in _groups(model):
        if group.borrows and not group.posterior_family.has_density:
            return f"a prior made of posteriors cannot be made of {type(group.posterior_family).__name__}s"
    return None


def _borrowed_condition(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    reads = any(isinstance(n, Network) and n.condition for n in model.encoder.networks)
    if not reads or not any(g.borrows for g in _groups(model)):
        return None
    return "a prior made of posteriors cannot be used with an encoder that reads a condition"


def _pseudo_categories(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    parts = [part for g in _groups(model) for part in g.children() if getattr(part, "learns_inputs", False)]
    rounds = any(isinstance(network, Network) and network.rounds for network in model.encoder.networks)
    if not parts or not (rounds or _has_categories(spec)):
        return None
    return f"a {type(parts[0]).__name__} prior cannot be used on {spec.name}"


def _support_of_data(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    family = model.decoder.family
    if contains(family.support, spec.scored_support):
        return None
    return f"a {type(family).__name__} cannot score {spec.name}: its values are {spec.scored_support}"


def _number_of_levels(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    family = model.decoder.family
    levels = getattr(family, "levels", None)
    if family.support != "levels" or spec.scored_support != "levels" or levels == spec.levels:
        return None
    return f"a {type(family).__name__} of {levels} levels cannot score {spec.name}, which has {spec.levels}"


def _support_of_latents(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for group in _groups(model):
        inner, outer = group.posterior_family.support, group.prior_support
        if not contains(outer, inner):
            return f"a posterior on {inner} values cannot be used with a prior on {outer} ones"
    return None


def _codes(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    families = [g.posterior_family for g in _groups(model) if g.posterior_family.support == "codes"]
    if not families:
        return None
    samples, beta = getattr(objective, "num_samples", 1), getattr(objective, "beta", 1.0)
    if objective.commits and samples == 1 and beta == 1.0:
        return None
    how = f" of {samples} samples" if samples != 1 else "" if beta == 1.0 else " whose beta is not 1"
    return f"a {type(families[0]).__name__} posterior cannot be used with {type(objective).__name__}{how}"


def _code_prior(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for group in _groups(model):
        family, prior = group.posterior_family, getattr(group, "prior_part", None)
        wanted = (getattr(family, "classes", None), family.prior_shape)
        given = (getattr(prior, "classes", None), getattr(prior, "event_shape", None))
        if family.support == "codes" and given != wanted:
            return f"{wanted[0]} codes at {wanted[1]} cannot be used with a {type(prior).__name__} prior"
    return None


def _space_of_latents(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    for group in _groups(model):
        family = group.posterior_family
        if family.support == group.prior_support and family.space != group.prior_space:
            spaces = f"on {family.space} cannot be used with a prior on {group.prior_space}"
            return f"a {type(family).__name__} posterior {spaces}"
    return None


def _labels(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    if spec.classes or not (model.conditional or objective.needs_labels):
        return None
    who = "a conditional model" if model.conditional else type(objective).__name__
    return f"{who} cannot be trained on {spec.name}"


def _noise_on_categories(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    if not objective.corrupts or not (spec.support == "symbols" or _has_categories(spec)):
        return None
    what = "symbols" if spec.support == "symbols" else "categories"
    return f"{type(objective).__name__} cannot be used on {spec.name}, which has {what}"


def _mean_of_symbols(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    if not objective.reads_mean or model.decoder.family.support != "symbols":
        return None
    return f"{type(objective).__name__} cannot be used on {spec.name}"


def _missing_cells(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    look = list(model.encoder.networks)[: None if model.encoder.uses is None else 1]  # of a chain the first one looks
    blind = [type(n).__name__ for n in look if isinstance(n, Network) and not n.reads_mask]
    return f"an encoder of {blind[0]} cannot be used on {spec.name}" if spec.masked and blind else None


def _missing_scored(model: VAE, objective: Objective, spec: DataSpec) -> str | None:
    family = model.decoder.family
    return f"a {type(family).__name__} cannot score {spec.name}" if spec.masked and not family.marginal else None


RULES: tuple[Rule, ...] = (
    Rule(
        "point posterior x bound",
        "a point has no density, so KL(q||p) is infinite and no bound on log p(x) exists",
        "use the recipe `ae`, or a Normal posterior",
        _point_posterior,
    ),
    Rule(
        "point likelihood",
        "a point has no density, so log p(x|z) is infinite whatever x is",
        "use a Normal with a small fixed scale",
        _point_likelihood,
    ),
    Rule(
        "discrete posterior x density",
        "the ratio of a probability and a density is no number, so KL(q||p) does not exist",
        "let posterior and prior both be discrete, or neither",
        _discrete_posterior,
    ),
    Rule(
        "draws without gradient",
        "a draw of discrete values has no derivative, so the loss would not move the encoder",
        "use a relaxed posterior, or an objective that sums over all values (LabelELBO)",
        _no_gradient,
    ),
    Rule(
        "sum over all values",
        "it passes every value of the top latent through the model, and only those of one one-hot vector are few",
        "use the recipes `m2` or `gmvae`, or the objective ELBO",
        _not_countable,
    ),
    Rule(
        "gradient moves x latents",
        "Hamilton's equations move one vector z through all of R^n; off its support log p(z) is -infinity",
        "use one flat group with real values, such as a Normal posterior",
        _not_movable,
    ),
    Rule(
        "scores only its draws",
        "a planar flow has an inverse that no formula gives, so it knows log q(z) of what it drew and of no other z",
        "use an autoregressive, spline or radial flow",
        _only_own_draws,
    ),
    Rule(
        "second pass x dropout",
        "other units would be dropped in the second pass, so z would be scored by a q that did not draw it",
        "use networks without dropout, or the objective IWAE",
        _noisy_networks,
    ),
    Rule(
        "dimensions x joint posterior",
        "it needs log q(z_d|x) of each dimension, which a posterior with dependent dimensions does not give",
        "use a Normal posterior",
        _not_factorised,
    ),
    Rule(
        "two players x shared weights",
        "the encoder and the prior share weights, so neither player's gradient is that of its own bound",
        "use a prior with its own weights, or the objective IWAE",
        _shared_weights,
    ),
    Rule(
        "prior x objective",
        "its gradient does not reach the prior's parameters, which would stay as they were drawn",
        "fit the prior once the model is trained (fit_prior), or use an objective with a rate",
        _prior_left_behind,
    ),
    Rule(
        "point x prior of posteriors",
        "a mixture of points has no density",
        "use a Normal posterior, or a mixture of normals as the prior",
        _borrowed_point,
    ),
    Rule(
        "condition x prior of posteriors",
        "a pseudo-input has no condition of its own",
        "use an unconditional recipe, or another prior",
        _borrowed_condition,
    ),
    Rule(
        "pseudo-inputs x categories",
        "pseudo-inputs are learned by gradient, and categories and symbols have no gradient",
        "choose columns without categories (--columns), or another prior, such as that of the recipe `exemplar_vae`",
        _pseudo_categories,
    ),
    Rule(
        "support of data x likelihood",
        "outside its support a likelihood is zero, and the formula returns numbers that mean nothing",
        "binarise grey images (--binarize dynamic), use `gaussian_vae` for real values, "
        "or `mnist_vae_2017` for the cross-entropy of grey pixels",
        _support_of_data,
    ),
    Rule(
        "levels of data x likelihood",
        "with fewer levels several values of the data would share one probability, and these sum to more than one",
        "give the likelihood levels=spec.levels",
        _number_of_levels,
    ),
    Rule(
        "support of posterior x prior",
        "where q > 0 and p = 0, KL(q||p) is infinite",
        "choose a prior whose support holds the posterior's",
        _support_of_latents,
    ),
    Rule(
        "space of posterior x prior",
        "densities with respect to the volumes of two spaces have no ratio",
        "give both the same curvature, or the same factors in the same order",
        _space_of_latents,
    ),
    Rule(
        "corruption x categories",
        "categories and symbols are numbered in no order, so noise on their numbers means nothing",
        "choose columns without categories (--columns), or a recipe without noise",
        _noise_on_categories,
    ),
    Rule(
        "missing cells x encoder",
        "it does not read which cells are missing, and would take them for the columns' means",
        "use a recipe whose encoder does, such as `vae`, or fill the cells",
        _missing_cells,
    ),
    Rule(
        "codes x objective",
        "a code is the nearest one and no draw, so samples are all the same and the rate moves no encoder: what does "
        "is the cost of rounding, which only the ELBO at beta = 1 adds to its loss",
        "use the objective ELBO with one sample",
        _codes,
    ),
    Rule(
        "codes x prior",
        "it gives no probabilities of so many codes at these places",
        "use a prior of codes, such as UniformCodes, PixelCNNPrior or TransformerPrior, of the same shape",
        _code_prior,
    ),
    Rule(
        "mean x symbols",
        "it learns from the decoder's mean, and the most probable symbols have no gradient",
        "use an objective of log p(x|z), such as ELBO or FreeBits",
        _mean_of_symbols,
    ),
    Rule(
        "missing cells x likelihood",
        "each value is scored given those before it, and no formula sums over those that are missing",
        "use a likelihood of independent values, or fill the cells",
        _missing_scored,
    ),
    Rule("condition x labels", "p(x|y) needs y", "use data with labels, or an unconditional recipe", _labels),
)


def check_values(family: Family, support: Support, name: str) -> None:
    """Raise Incompatible if values on `support` lie outside the family's."""
    if not contains(family.support, support):
        raise Incompatible(
            f"a {type(family).__name__} cannot score {name}: its values are {support}",
            expected=f"{family.support} values",
            fix="bring the data into the model's form: rows = data.test.matching(model.spec)",
        )


def check_rules(model: VAE, objective: Objective, spec: DataSpec) -> None:
    """Raise Incompatible, with its reason, for the first rule that the parts break."""
    for rule in RULES:
        sentence = rule.broken(model, objective, spec)
        if sentence:
            raise Incompatible(f"{sentence}: {rule.reason}", where=rule.name, fix=rule.fix)
