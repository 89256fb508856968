"""Reconstruction alone: the autoencoder, and the VAE whose KL was left out."""

from torch import Tensor

from ..core.model import VAE
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch


@recorded
class Reconstruction(Objective):
    r"""E_q[-log p(x|z)] and nothing else.

    With a point posterior it is the plain autoencoder (Hinton & Salakhutdinov 2006). With a normal one it is a
    VAE without the KL term: nothing keeps the noise up, so sigma goes to 0. The ELBO is reported where it
    exists, but it is not what is optimised; the best weights are those of the lowest distortion.

    >>> Reconstruction().monitor
    'distortion'
    """

    needs_density = False
    learns_prior = False
    monitor = "distortion"
    maximize = False

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the distortion, averaged over the batch."""
        trace = model(batch)
        terms = trace.terms() if model.has_density else {"distortion": -trace.mean(trace.log_px)}
        return Outcome({"model": batch.mean(terms["distortion"])}, terms, trace)
