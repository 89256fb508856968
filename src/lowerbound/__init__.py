"""lowerbound: train, evaluate, explore and ship variational autoencoders.

>>> import lowerbound as lb
>>> data = lb.load_data("digits")
>>> recipe = lb.recipes.vae(data.spec, latent_dim=4, hidden=(32,))
>>> run = lb.fit(recipe, data, epochs=1, progress=False)
>>> run.model.sample(3, seed=0).shape
torch.Size([3, 1, 8, 8])
"""

from . import recipes
from ._version import __version__
from .core.errors import LowerboundError
from .core.model import VAE
from .core.record import recorded
from .core.recipe import Recipe, Training
from .core.types import Batch, DataSpec, Latent, Trace
from .data import Data, Dataset, from_arrays, load_data
from .evaluate import active_units, evaluate, score
from .ship import load, save
from .train import Run, fit

__all__ = [
    "VAE", "Batch", "Data", "DataSpec", "Dataset", "Latent", "LowerboundError", "Recipe", "Run", "Trace", "Training",
    "__version__", "active_units", "evaluate", "fit", "from_arrays", "load", "load_data", "recipes", "recorded",
    "save", "score",
]  # fmt: skip
