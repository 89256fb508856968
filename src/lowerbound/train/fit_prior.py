"""`fit_prior`: fit priors to the codes of a trained model, and keep the best."""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, Incompatible, TrainingFailed, UsageError
from ..core.model import VAE, Group, Starting, inference
from ..core.noise import Stream, generator, kept_generators, reseed, seeded
from ..core.objective import Objective
from ..core.phases import FitPrior
from ..core.recipe import Training
from ..core.record import describe, rebuild
from ..core.rules import check_rules
from ..core.spec import DataSpec
from ..core.types import Batch, Lent
from ..data.dataset import Data, Dataset
from ..groups.flat import GroupWithPrior
from .update import make_optimizers, set_lr

Say = Callable[[str], None]
_BLOCK = 1000
_JUDGED = 2000  # held-out rows that decide, at most
_SEEN = 10_000  # training codes from which a prior starts, at most


def fit_prior(
    model: VAE,
    prior: nn.Module | Sequence[nn.Module],
    data: Data | Dataset,
    *,
    epochs: int = 20,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    group: int = 0,
    say: Say | None = None,
) -> VAE:
    """Fit a prior to the codes of a trained model, encoder and decoder frozen, and return a new model with it.

    Each training row's code is drawn anew from q(z|x) in each epoch, and log p(z) is maximised by Adam, or the loss a
    prior names for itself (`fit_loss`) minimised, with a learning rate that falls by a cosine to 0. The weights of the
    best epoch by validation rows are kept, and of several priors that of the highest mean log p(z) on these, in nats.
    Of a model with a density that raises the ELBO by what it lowers the rate: E log p(x|z) and the entropy of q are as
    they were. A plain autoencoder gets a sampler, and no density.

    Args:
        model: a trained model; it is not changed.
        prior: what to fit, or several to choose from. Only how they were made counts: they are built anew by `seed`.
        data: training rows to fit on and validation rows (2,000 at most) to judge by. A `Dataset`, or data without
            validation rows, is judged by its training rows.
        epochs: passes through the training rows.
        batch_size: rows in one step.
        lr: Adam's learning rate at the start.
        seed: decides initial weights, order and noise: the same seed gives the same bytes on the same machine.
        group: number of the latent group whose prior it is to be, from the top.
        say: is told the score of each prior, a line each, and which of several was kept.

    Raises:
        UsageError: if no prior or an impossible number is given.
        Incompatible: if a prior cannot be the model's, or the model's group takes none.
        TrainingFailed: if no prior has a finite score.

    >>> import lowerbound as lb
    >>> from lowerbound.priors import LearnedNormal
    >>> data = lb.load_data("digits")
    >>> run = lb.fit(lb.recipes.ae(data.spec, latent_dim=2, hidden=(16,)), data, epochs=1, progress=False)
    >>> model = fit_prior(run.model, LearnedNormal((2,)), data, epochs=1)
    >>> model.sample(3, seed=0).shape, model.has_density
    (torch.Size([3, 1, 8, 8]), False)
    """
    priors = (prior,) if isinstance(prior, nn.Module) else tuple(prior)
    plan = FitPrior(priors, epochs, batch_size, lr, group)
    train = data.train if isinstance(data, Data) else data
    own = isinstance(data, Dataset) or not len(data.valid)
    spec = model.spec or train.spec
    if not len(train):
        raise DataError(f"{spec.name} has no training rows to fit a prior to")
    rows = train.matching(spec, resample=True).to(model.device)
    judges = (train if own else data.valid).matching(spec).to(model.device)  # pyright: ignore
    tell: Say = say or (lambda line: None)
    fitted: list[tuple[float, str, VAE]] = []
    # the generators that are kept and reseeded are those of the current GPU
    current = torch.cuda.device(model.device) if model.device.type == "cuda" else nullcontext()
    with current, kept_generators():
        for i, (name, candidate) in enumerate(zip(_names(priors), priors, strict=True)):
            with seeded(Stream.WEIGHTS, seed, i):
                made = _checked(model, rebuild(describe(candidate)), group, spec)
            score = _Fit(made, rows, judges, plan, seed, own=own).run()
            if math.isfinite(score):
                tell(f"{name}: mean log p(z) of {'training' if own else 'validation'} codes {score:.3f} nats")
                fitted.append((score, name, made))
            else:
                tell(f"{name}: left out, as its mean log p(z) is not finite")
    if not fitted:
        raise TrainingFailed(f"the score of {', '.join(_names(priors))} was not finite", fix="lower its lr")
    _, name, best = max(fitted, key=lambda one: one[0])
    if len(priors) > 1:
        tell(f"kept: {name}")
    return best.eval()


def prior_score(model: VAE, rows: Dataset, *, seed: int = 0, leave_out: bool = False, group: int = 0) -> float:
    """Return the mean log p(z) in nats, z ~ q(z|x), of the rows, by their weights, under a group's prior.

    Of more than 2,000 rows, 2,000 are drawn by the seed.

    Args:
        model: the model.
        rows: rows in the model's form (`data.valid.matching(model.spec)`).
        seed: decides the rows and the draws of z.
        leave_out: let a prior made of training examples leave each out of its own, as in training.
        group: number of the group, from the top.
    """
    return _mean(model, rows, seed, lambda batch: _log_p(model, batch, group, batch.index if leave_out else None))


def with_prior(model: VAE, prior: nn.Module, group: int = 0) -> VAE:
    """Return a copy of the model one of whose groups has another prior.

    Args:
        model: a model; it is not changed.
        prior: its new prior.
        group: number of the group, from the top.

    Raises:
        UsageError: if there is no such group.
        Incompatible: if the group takes no prior, or z has another shape.
    """
    twin = copy.deepcopy(model)
    groups = [g for g in twin.groups if isinstance(g, Group)]
    if not 0 <= group < len(groups):
        raise UsageError(f"there is no group {group}", expected=f"0 to {len(groups) - 1}, from the top")
    old = groups[group]
    arguments: dict[str, Any] = dict(getattr(old, "_recorded", {}))
    if not isinstance(old, GroupWithPrior) or "prior_part" not in arguments:
        raise Incompatible(
            f"a prior cannot be fitted to a {type(old).__name__}: it takes none",
            fix="use a model whose top group is Flat",
        )
    event = tuple(getattr(prior, "event_shape", old.prior_event))
    if event != old.prior_event:
        raise Incompatible(
            f"a {type(prior).__name__} of shape {event} cannot be the prior of codes of another",
            expected=f"{old.prior_event}",
        )
    made: Any = type(old)
    groups[group] = made(**arguments | {"prior_part": prior.to(model.device)})
    return VAE(twin.encoder, groups, twin.decoder, twin.spec)


def check_priors(model: VAE, priors: Sequence[nn.Module], spec: DataSpec, group: int = 0) -> None:
    """Raise the error by which `fit_prior` would refuse priors, without fitting them.

    Raises:
        UsageError: if there is no such group.
        Incompatible: if a prior cannot be the model's, or the model's group takes none.
    """
    for prior in priors:
        _checked(model, prior, group, spec)


def _checked(model: VAE, prior: nn.Module, group: int, spec: DataSpec) -> VAE:
    """Return a copy of the model with the prior, which no rule forbids."""
    made = with_prior(model, prior, group)
    check_rules(made, _Nothing(), spec)
    return made


def _names(priors: Sequence[nn.Module]) -> list[str]:
    """Return the priors' kinds, numbered where there are several of one."""
    kinds = [type(prior).__name__ for prior in priors]
    return [k if kinds.count(k) == 1 else f"{k} {kinds[: i + 1].count(k)}" for i, k in enumerate(kinds)]


class _Nothing(Objective):
    """Stands for the objective in the rules: a fitted prior needs of the posterior only its draws."""

    needs_density = False
    pathwise = False
    commits = True


def _draw(model: VAE, batch: Batch) -> Tensor:
    """Draw z ~ q(z|x) `[B, *latent]`; of a point, itself."""
    seen = batch.x if batch.seen is None else batch.seen
    with torch.no_grad():
        return model.infer(seen, batch.y, batch.mask).sample()


def _log_p(model: VAE, batch: Batch, group: int, index: Tensor | None) -> Tensor:
    """Return log p(z) `[B]` of a group, z ~ q(z|x); a group below others is reached through these."""
    if group:
        return model.visit(batch)[1][group].log_p[0]
    z = _draw(model, batch)
    return _top(model).prior(None, batch.y, Lent(model.infer, index)).log_prob(z).expand(len(z))


def _mean(model: VAE, rows: Dataset, seed: int, value: Callable[[Batch], Tensor]) -> float:
    """Return the mean of `value(batch) [B]` over rows, with noise of its own."""
    total, count = 0.0, 0.0
    if len(rows) > _JUDGED:
        some = torch.randperm(len(rows), generator=generator(Stream.PRIOR, seed, 4))[:_JUDGED]
        rows = rows.rows(some.to(rows.x.device))
    with inference(model), seeded(Stream.PRIOR, seed, 0):
        for batch in rows.blocks(_BLOCK):
            each = value(batch).double()
            weight = torch.ones_like(each) if batch.weight is None else batch.weight.double()
            total, count = total + float((weight * each).sum()), count + float(weight.sum())
    return total / count


def _top(model: VAE) -> Any:
    return next(iter(model.groups))


class _Fit:
    """The fit of one prior, which is the model's own already."""

    def __init__(self, model: VAE, rows: Dataset, judges: Dataset, plan: FitPrior, seed: int, *, own: bool) -> None:
        self.model, self.rows, self.judges, self.plan, self.seed, self.own = model, rows, judges, plan, seed, own
        self.prior: Any = model.groups[plan.group].prior_part
        self.named = getattr(self.prior, "fit_loss", None)
        self.params = [p for p in self.prior.parameters() if p.requires_grad]

    def run(self) -> float:
        """Fit the prior and return its held-out score in nats."""
        self.model.eval()
        self._start()
        if self.params:
            self._epochs()
        return self._score()

    def _score(self) -> float:
        return prior_score(self.model, self.judges, seed=self.seed, leave_out=self.own, group=self.plan.group)

    def _start(self) -> None:
        """Give the prior what it starts from: training examples, codes, or nothing."""
        order = torch.randperm(len(self.rows), generator=generator(Stream.PRIOR, self.seed, 1)).to(self.rows.x.device)
        with seeded(Stream.PRIOR, self.seed, 2), torch.no_grad():
            for module in self.prior.modules():
                if isinstance(module, Starting):
                    batch = self.rows.batch(order[: module.wants])  # on the CPU, as at the start of a training
                    module.start_from(batch.to(torch.device("cpu")))
            if hasattr(self.prior, "start_from_codes"):
                parts = [_draw(self.model, self.rows.batch(i)) for i in order[:_SEEN].split(_BLOCK)]
                self.prior.start_from_codes(torch.cat(parts))

    def _epochs(self) -> None:
        """Take the steps of every epoch, and go back to the weights that were judged best, the first ones included."""
        optimizers = make_optimizers({"prior": self.params}, Training(lr=self.plan.lr))
        steps = self.plan.epochs * math.ceil(len(self.rows) / self.plan.batch_size)
        best, kept, step = self._judge(), copy.deepcopy(self.prior.state_dict()), 0
        for epoch in range(self.plan.epochs):
            order = torch.randperm(len(self.rows), generator=generator(Stream.ORDER, self.seed, epoch))
            for index in order.to(self.rows.x.device).split(self.plan.batch_size):
                reseed(Stream.PRIOR, self.seed, 3, step)
                set_lr(optimizers, self.plan.lr * 0.5 * (1 + math.cos(math.pi * step / steps)))
                optimizers["prior"].zero_grad(set_to_none=True)
                self._loss(self.rows.batch(index)).backward(inputs=self.params)
                optimizers["prior"].step()
                step += 1
            value = self._judge()
            if value > best or not math.isfinite(best):
                best, kept = value, copy.deepcopy(self.prior.state_dict())
        self.prior.load_state_dict(kept)
        for parameter in self.params:
            parameter.grad = None

    def _loss(self, batch: Batch) -> Tensor:
        if self.named is not None:
            return batch.mean(self.named(_draw(self.model, batch)))
        return -batch.mean(_log_p(self.model, batch, self.plan.group, batch.index))

    def _judge(self) -> float:
        """Return a held-out value to maximise: minus the prior's own loss if it has one, else log p(z)."""
        named = self.named
        if named is None:
            return self._score()
        return -_mean(
            self.model, self.judges, self.seed, lambda batch: named(_draw(self.model, batch)).expand(len(batch.x))
        )
