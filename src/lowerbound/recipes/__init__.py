"""The zoo: each variant a function from a data spec and options to a `Recipe`."""

from difflib import get_close_matches

from ..core.errors import UsageError
from ..core.recipe import RECIPES, RecipeFunction
from .basic import ae, beta_vae, vae, vae_no_kl, vae_simple_reg
from .bounds import ciwae, dreg, iwae, miwae, miwae_missing, piwae, renyi_vae, stl
from .codes import fsq_vae, lfq_vae, rvq_vae, vq_vae, vq_vae2
from .curved import mixed_curvature_vae, poincare_vae
from .deterministic import aae, perceptual_vae, rae, ssim_vae, vae_gan
from .flows import flow_prior_vae, gated_flow_vae, vae_iaf, vae_nf
from .image_ladders import dvp_vae, nvae, vdvae
from .ladders import ladder_vae, two_layer_vae
from .latents import discretized_logistic_vae, gumbel_vae, hyperspherical_vae, sigma_vae
from .likelihoods import continuous_bernoulli_vae, student_vae
from .modalities import mmvae, mopoe, mvae
from .priors import exemplar_vae, gmm_prior_vae, latent_flow_matching, two_stage_vae, vamp
from .regularised import (
    annealed_vae,
    beta_tc_vae,
    dip_vae,
    disentangled_beta_vae,
    factor_vae,
    free_bits_vae,
    geco_vae,
    hsic_vae,
    info_vae,
    lagging_vae,
    wae,
)
from .sequences import pixel_vae, sequence_vae
from .structured import gmvae, hamiltonian_vae, joint_vae, m2
from .tutorials import mnist_vae_2017, workshop_vae_2025
from .variants import conv_vae, cvae, denoising_vae, gaussian_vae, linear_vae

__all__ = [
    "aae",
    "ae",
    "annealed_vae",
    "beta_tc_vae",
    "beta_vae",
    "ciwae",
    "continuous_bernoulli_vae",
    "conv_vae",
    "cvae",
    "denoising_vae",
    "dip_vae",
    "discretized_logistic_vae",
    "disentangled_beta_vae",
    "dreg",
    "dvp_vae",
    "exemplar_vae",
    "factor_vae",
    "flow_prior_vae",
    "free_bits_vae",
    "fsq_vae",
    "gated_flow_vae",
    "gaussian_vae",
    "geco_vae",
    "gmm_prior_vae",
    "gmvae",
    "gumbel_vae",
    "hamiltonian_vae",
    "hsic_vae",
    "hyperspherical_vae",
    "info_vae",
    "iwae",
    "joint_vae",
    "ladder_vae",
    "lagging_vae",
    "latent_flow_matching",
    "lfq_vae",
    "linear_vae",
    "m2",
    "miwae",
    "miwae_missing",
    "mixed_curvature_vae",
    "mmvae",
    "mnist_vae_2017",
    "mopoe",
    "mvae",
    "nvae",
    "perceptual_vae",
    "piwae",
    "pixel_vae",
    "poincare_vae",
    "rae",
    "renyi_vae",
    "rvq_vae",
    "sequence_vae",
    "sigma_vae",
    "ssim_vae",
    "stl",
    "student_vae",
    "two_layer_vae",
    "two_stage_vae",
    "vae",
    "vae_gan",
    "vae_iaf",
    "vae_nf",
    "vae_no_kl",
    "vae_simple_reg",
    "vamp",
    "vdvae",
    "vq_vae",
    "vq_vae2",
    "wae",
    "workshop_vae_2025",
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
