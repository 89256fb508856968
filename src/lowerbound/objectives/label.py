"""A sum over all labels: semi-supervised learning, and clusters without labels."""

import math
import sys
from dataclasses import replace

import torch
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import ShapeError, UsageError
from ..core.model import VAE, Group, Starting
from ..core.noise import Stream, generator
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace
from ..core.walk import Drawn, Shape, Source, from_posterior
from .iwae import whole


def evenly(classes: Tensor, count: int, seed: int) -> Tensor:
    """Return the places of `count` rows, drawn at random and as evenly over the classes as these allow.

    Args:
        classes: class number of each row, `[N]`.
        count: how many rows.
        seed: decides the draw.

    >>> classes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    >>> classes[evenly(classes, 5, seed=0)].tolist()
    [0, 0, 1, 1, 2]
    """
    order = torch.randperm(len(classes), generator=generator(Stream.SPLITS, seed))
    shuffled = torch.nn.functional.one_hot(classes[order])
    rank = (shuffled.cumsum(0) * shuffled).sum(1)  # 1 for the first row of a class, 2 for its second, ...
    return order[rank.argsort(stable=True)[:count]].sort().values


@recorded
class LabelELBO(Objective, Starting):
    r"""The ELBO of a model whose top latent is a label y, summed over y where it is not observed.

    Kingma et al. 2014, arXiv 1406.5298, eq. 6 to 9. With -L(x, y) = E_{q(z|x,y)}[log p(x|y,z) + log p(y) + log p(z|y)
    - log q(z|x,y)], a bound on log p(x, y), a row without label maximises -U(x) = sum_y q(y|x) (-L(x, y)) + H(q(y|x)),
    a bound on log p(x), and a row with one maximises -L(x, y) + alpha N/N_l log q(y|x), where N_l of N rows have labels
    (the paper's weight alpha N of the mean cross-entropy). Both are one pass over all labels: an observed label costs
    log q = 0 and has all of the share. Where labels are shown, the term `elbo` of the training rows is a mean of the
    two bounds; on validation rows no label is shown. `cross_entropy` is -log q(y|x) in nats, and `accuracy` is 1 where
    the most probable label is the row's; both are of all rows, shown or not.

    Args:
        labelled: share of the training rows whose label is shown (0 to 1), or their number (above 1), drawn as evenly
            over the classes as these allow. 0: labels are never read, and the groups of rows found are clusters.
        alpha: weight of the cross-entropy of the shown labels; the paper has 0.1, for trainings of thousands of epochs.
        num_samples: samples of the other latents for each label.
        seed: decides which labels are shown.

    Raises:
        UsageError: if `labelled` or alpha is negative, or a number of rows is not whole.

    >>> LabelELBO(labelled=100.0).needs_labels, LabelELBO(labelled=0.0).needs_labels
    (True, False)
    """

    enumerates = (0,)
    shown: Tensor

    def __init__(self, labelled: float = 0.1, alpha: float = 1.0, num_samples: int = 1, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= labelled < math.inf or (labelled > 1 and labelled != int(labelled)):
            raise UsageError(f"labelled cannot be {labelled}", expected="a share up to 1, or a whole number of rows")
        if not 0 <= alpha < math.inf:
            raise UsageError(f"alpha cannot be {alpha}", expected="a finite number, 0 or more")
        self.labelled, self.alpha, self.num_samples, self.seed = labelled, alpha, whole(num_samples), seed
        self.needs_labels = labelled > 0
        self.wants = sys.maxsize if labelled else 0  # all rows: which labels are shown depends on all of them
        self.share = 1.0
        # not saved: training makes it again from the data and the seed
        self.register_buffer("shown", torch.zeros(0, dtype=torch.long), persistent=False)

    def start_from(self, examples: Batch) -> None:
        """Choose the rows whose labels are shown; it does not depend on the order of `examples`."""
        if not self.labelled or examples.y is None or examples.index is None:
            return
        index, order = examples.index.sort()
        wanted = self.labelled if self.labelled > 1 else max(1, round(self.labelled * len(index)))
        self.shown = index[evenly(examples.y.argmax(1)[order], int(wanted), self.seed)]
        self.share = len(self.shown) / len(index)

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return minus the bounds plus the weighted cross-entropy of the shown labels, averaged over the batch."""
        known = self._known(model, batch)
        trace = self._trace(model, batch, known)
        terms, loss = trace.terms(), -trace.terms()["elbo"]
        if self.labelled and batch.y is not None:
            q = trace.latents[0].q
            assert q is not None, "a trace of data has a posterior"
            terms["cross_entropy"] = -q.log_prob(batch.y)
            terms["accuracy"] = (q.mean.argmax(-1) == batch.y.argmax(-1)).float()
            loss = loss + self.alpha / self.share * known * terms["cross_entropy"]
        return Outcome({"model": batch.mean(loss)}, terms, trace)

    def _known(self, model: VAE, batch: Batch) -> Tensor:
        """Return 1 where the label is shown, `[B]`; it is for training rows alone."""
        if not model.training or batch.index is None or batch.y is None or not self.labelled:
            return torch.zeros(batch.x.shape[0], dtype=torch.bool, device=batch.x.device)
        return torch.isin(batch.index, self.shown)

    def _trace(self, model: VAE, batch: Batch, known: Tensor) -> Trace:
        """Pass the batch through with each label `num_samples` times; shares are q(y|x), or 1 and 0 where known."""
        group, rows = model.groups[0], batch.x.shape[0]
        assert isinstance(group, Group), "a model's groups are groups"
        count = group.posterior_family.event_shape[0]
        if self.labelled and batch.y is not None and batch.y.shape[1] != count:
            raise ShapeError(f"the labels have {batch.y.shape[1]} classes", expected=f"{count}, as the top latent has")
        labels = torch.eye(count, dtype=batch.x.dtype, device=batch.x.device).repeat_interleave(self.num_samples, 0)
        labels = labels[:, None].expand(-1, rows, -1)  # [K, B, C]
        trace = model(batch, len(labels), _every(labels, known))
        q = trace.latents[0].q
        assert q is not None, "a trace of data has a posterior"
        share = q.log_prob(labels)
        if self.labelled and batch.y is not None:
            observed = (labels * batch.y).sum(-1).log()  # 0 for the row's own label, -inf for others
            share = torch.where(known, observed, share)
        return replace(trace, log_share=share - math.log(self.num_samples))


def _every(labels: Tensor, known: Tensor) -> Source:
    """Give the top group all labels, which cost log q(y|x) unless the row's label is known; others draw from q."""

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        if i:
            return from_posterior(i, q, p, shape)
        assert q is not None, "labels are enumerated where there are data"
        log_q = q.log_prob(labels)
        return labels, torch.where(known, torch.zeros_like(log_q), log_q), False

    return source
