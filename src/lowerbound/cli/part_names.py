"""The names of parts on the command line."""

from typing import Any

from .. import families, objectives, priors

NAMES: dict[str, dict[str, Any]] = {
    "likelihood": {
        "bernoulli": families.Bernoulli,
        "fixed_normal": families.FixedNormal,
        "grey_bernoulli": families.GreyBernoulli,
        "normal": families.Normal,
        "per_dimension_normal": families.PerDimensionNormal,
        "shared_normal": families.SharedNormal,
    },
    "posterior": {
        "delta": families.Delta,
        "normal": families.Normal,
    },
    "prior": {
        "standard_normal": priors.StandardNormal,
    },
    "objective": {
        "elbo": objectives.ELBO,
        "reconstruction": objectives.Reconstruction,
        "simple_regularizer": objectives.SimpleRegularizer,
    },
}
