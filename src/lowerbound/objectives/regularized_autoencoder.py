"""The regularised autoencoder: codes kept small, and a decoder kept smooth by a penalty in place of noise."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE, Group
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from ..core.walk import observe, walk

DecoderPenalty: TypeAlias = Literal["none", "l2", "gradient_penalty"]


@recorded
class RAE(Objective):
    r"""-log p(x|z) + code_weight |z|^2 / 2 + decoder_weight R(decoder) at z = f(x), with no noise.

    Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", arXiv 1903.12436, sec. 3. R is

    - "l2": the squared norm of the weights of the decoder's network,
    - "gradient_penalty": |J|_F^2 with J the Jacobian of the decoder's mean at z, estimated without bias by
      |J' v|^2 with one vector v of random signs for each example (Hutchinson 1989), which is differentiated again,
    - "none": 0, also where the decoder's weights are normalised (`lowerbound.networks.SpectralNorm`).

    No bound and no density: to draw samples, fit a prior to the codes afterwards (the paper's sec. 4). The best
    weights are those of the lowest loss (`penalized`).

    Args:
        code_weight: weight of |z|^2 / 2.
        decoder: what keeps the decoder smooth.
        decoder_weight: weight of R.

    Raises:
        UsageError: if a weight is negative or `decoder` is none of the three.

    >>> RAE(decoder="l2").monitor
    'penalized'
    """

    needs_density = False
    learns_prior = False
    monitor = "penalized"
    maximize = False

    def __init__(
        self, code_weight: float = 0.1, decoder: DecoderPenalty = "gradient_penalty", decoder_weight: float = 0.1
    ) -> None:
        super().__init__()
        if not (0 <= code_weight < float("inf") and 0 <= decoder_weight < float("inf")):
            given = f"code_weight={code_weight}, decoder_weight={decoder_weight}"
            raise UsageError(f"the weights cannot be {given}", expected="finite numbers, 0 or more")
        if decoder not in ("none", "l2", "gradient_penalty"):
            raise UsageError(f"there is no penalty {decoder!r}", expected="none, l2 or gradient_penalty")
        self.code_weight, self.decoder, self.decoder_weight = code_weight, decoder, decoder_weight
        self.reads_mean = decoder == "gradient_penalty"

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the penalised distortion; terms `code` |z|^2 / 2 and `decoder_penalty` R."""
        trace = model(batch)
        terms = trace.terms() if model.has_density else {"distortion": -trace.mean(trace.log_px)}
        terms["code"] = torch.stack([0.5 * latent.z[0].square().flatten(1).sum(1) for latent in trace.latents]).sum(0)
        terms["decoder_penalty"] = self._penalty(model, batch, trace).expand_as(terms["code"])
        penalty = self.code_weight * terms["code"] + self.decoder_weight * terms["decoder_penalty"]
        terms["penalized"] = terms["distortion"] + penalty
        return Outcome({"model": batch.mean(terms["penalized"])}, terms, trace)

    def _penalty(self, model: VAE, batch: Batch, trace: Trace) -> Tensor:
        if self.decoder == "l2":
            return torch.stack([p.square().sum() for p in model.decoder.network.parameters()]).sum()
        if self.decoder == "gradient_penalty":
            return _squared_jacobian(model, batch, trace)
        return trace.log_px.new_zeros(())


def _squared_jacobian(model: VAE, batch: Batch, trace: Trace) -> Tensor:
    """Return an unbiased estimate of |J|_F^2 for each example, `[B]`: E|J' v|^2 = |J|_F^2 where E[v v'] = I."""
    groups = [g for g in model.groups if isinstance(g, Group)]

    def mean_at(*zs: Tensor) -> Tensor:
        state, _ = walk(groups, None, batch.y, model.infer, observe(dict(enumerate(zs))), (1, batch.x.shape[0]))
        return model.decoder(state, batch.y).mean

    mean, pull_back, *_ = torch.func.vjp(mean_at, *(latent.z for latent in trace.latents))
    signs = torch.where(torch.rand_like(mean) < 0.5, -1.0, 1.0).to(mean)
    return torch.stack([pulled[0].square().flatten(1).sum(1) for pulled in pull_back(signs)]).sum(0)
