"""lowerbound: train, evaluate, explore and ship variational autoencoders.

Names are imported when first used, so that `lowerbound --help` need not wait for torch.

>>> import lowerbound as lb
>>> data = lb.load_data("digits")
>>> recipe = lb.recipes.vae(data.spec, latent_dim=4, hidden=(32,))
>>> run = lb.fit(recipe, data, epochs=1, progress=False)
>>> run.model.sample(3, seed=0).shape
torch.Size([3, 1, 8, 8])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import families, groups, networks, objectives, posteriors, priors, recipes
    from .core.compose import composed
    from .core.errors import LowerboundError
    from .core.modalities import split, translate
    from .core.model import VAE, Conditional, Encoder
    from .core.recipe import Recipe, Training, recipe
    from .core.record import recorded
    from .core.spec import Column, DataSpec
    from .core.types import Batch, Latent, Trace
    from .data import (
        Data,
        Dataset,
        from_arrays,
        from_sequences,
        from_stream,
        joined,
        load_data,
        load_rows,
        to_sequences,
        with_label,
    )
    from .data.sprites import factors
    from .evaluation import Evaluation, active_units, evaluate, rate_per_dimension, rate_per_group, score
    from .evaluation.annealed import Annealing, annealed, bidirectional, rate_distortion
    from .evaluation.coherence import Coherence, coherence, same_class
    from .evaluation.doctor import Diagnosis, doctor
    from .evaluation.fidelity import sample_quality
    from .evaluation.outliers import mutated, outliers
    from .evaluation.reconstruction import column_errors, reconstruction
    from .evaluation.representation import representation
    from .explore.report import report
    from .ship import load, save
    from .train import Run, fit, fit_prior, resume

_HOME = {
    "LowerboundError": "core.errors",
    "VAE": "core.model", "Conditional": "core.model", "Encoder": "core.model",
    "Recipe": "core.recipe", "Training": "core.recipe", "recipe": "core.recipe",
    "recorded": "core.record",
    "Column": "core.spec", "DataSpec": "core.spec",
    "Batch": "core.types", "Latent": "core.types", "Trace": "core.types",
    "Data": "data", "Dataset": "data", "from_arrays": "data", "from_stream": "data", "from_sequences": "data",
    "joined": "data", "with_label": "data", "load_data": "data", "load_rows": "data", "to_sequences": "data",
    "split": "core.modalities", "translate": "core.modalities",
    "Evaluation": "evaluation", "active_units": "evaluation", "evaluate": "evaluation", "score": "evaluation",
    "rate_per_dimension": "evaluation", "rate_per_group": "evaluation", "report": "explore.report",
    "Annealing": "evaluation.annealed", "annealed": "evaluation.annealed", "bidirectional": "evaluation.annealed",
    "rate_distortion": "evaluation.annealed",
    "Coherence": "evaluation.coherence", "coherence": "evaluation.coherence", "same_class": "evaluation.coherence",
    "Diagnosis": "evaluation.doctor", "doctor": "evaluation.doctor",
    "sample_quality": "evaluation.fidelity",
    "mutated": "evaluation.outliers", "outliers": "evaluation.outliers",
    "column_errors": "evaluation.reconstruction", "reconstruction": "evaluation.reconstruction",
    "representation": "evaluation.representation",
    "factors": "data.sprites",
    "load": "ship", "save": "ship",
    "Run": "train", "fit": "train", "fit_prior": "train", "resume": "train",
    "composed": "core.compose",
}  # fmt: skip
_MODULES = ("families", "groups", "networks", "objectives", "posteriors", "priors", "recipes")

__all__ = [
    "VAE",
    "Annealing",
    "Batch",
    "Coherence",
    "Column",
    "Conditional",
    "Data",
    "DataSpec",
    "Dataset",
    "Diagnosis",
    "Encoder",
    "Evaluation",
    "Latent",
    "LowerboundError",
    "Recipe",
    "Run",
    "Trace",
    "Training",
    "__version__",
    "active_units",
    "annealed",
    "bidirectional",
    "coherence",
    "column_errors",
    "composed",
    "doctor",
    "evaluate",
    "factors",
    "families",
    "fit",
    "fit_prior",
    "from_arrays",
    "from_sequences",
    "from_stream",
    "groups",
    "joined",
    "load",
    "load_data",
    "load_rows",
    "mutated",
    "networks",
    "objectives",
    "outliers",
    "posteriors",
    "priors",
    "rate_distortion",
    "rate_per_dimension",
    "rate_per_group",
    "recipe",
    "recipes",
    "reconstruction",
    "recorded",
    "report",
    "representation",
    "resume",
    "same_class",
    "sample_quality",
    "save",
    "score",
    "split",
    "to_sequences",
    "translate",
    "with_label",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = import_module(f".{name}", __name__)
    elif name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    else:
        raise AttributeError(f"module 'lowerbound' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
