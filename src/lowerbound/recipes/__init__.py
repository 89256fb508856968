"""The zoo: each variant a function from a data spec and options to a `Recipe`."""

from difflib import get_close_matches

from ..core.errors import UsageError
from ..core.recipe import RECIPES, RecipeFunction
from .basic import ae, beta_vae, vae, vae_no_kl, vae_simple_reg
from .tutorials import mnist_vae_2017, workshop_vae_2025
from .variants import conv_vae, cvae, denoising_vae, gaussian_vae, linear_vae

__all__ = [
    "ae", "beta_vae", "conv_vae", "cvae", "denoising_vae", "gaussian_vae", "linear_vae", "mnist_vae_2017", "vae",
    "vae_no_kl", "vae_simple_reg", "workshop_vae_2025",
]  # fmt: skip


def find(name: str) -> RecipeFunction:
    """Return the recipe function called `name`.

    Raises:
        UsageError: if there is none; the message names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = get_close_matches(name.replace("-", "_"), RECIPES, 1)
    fix = f"did you mean {near[0]}?" if near else "list them: lowerbound recipes"
    raise UsageError(f"there is no recipe {name!r}", expected=", ".join(sorted(RECIPES)), fix=fix)
