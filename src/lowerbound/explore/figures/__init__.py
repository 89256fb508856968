"""Figures with matplotlib, each a function from arrays to a `Figure`: pure drawing, for papers, talks and reports."""

from .frame import CLASSES, PALETTE, new_figure, png_of, write_figure
from .latent import ae_beside_vae, aggregate_against_prior, latent_scatter, point_clouds, rate_per_dimension
from .tiles import (
    interpolations,
    learned_manifold,
    mosaic,
    reconstructions,
    reconstructions_by_epoch,
    rows_of_images,
    samples,
    show_images,
    traversals,
)
from .training import curves, tug_of_war

__all__ = [
    "CLASSES",
    "PALETTE",
    "ae_beside_vae",
    "aggregate_against_prior",
    "curves",
    "interpolations",
    "latent_scatter",
    "learned_manifold",
    "mosaic",
    "new_figure",
    "png_of",
    "point_clouds",
    "rate_per_dimension",
    "reconstructions",
    "reconstructions_by_epoch",
    "rows_of_images",
    "samples",
    "show_images",
    "traversals",
    "tug_of_war",
    "write_figure",
]
