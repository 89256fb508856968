"""The VAE: encoder, latent groups, decoder, and the one pass through them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .distribution import Distribution, Support
from .errors import ShapeError, UsageError
from .noise import Stream, seeded
from .record import recorded
from .spec import DataSpec
from .types import Batch, Infer, Latents, Lent, Trace
from .walk import Source, folded, from_posterior, mode, observe, unscored, walk

Show: TypeAlias = Literal["mean", "draw"]
NEEDS_Y = (
    "this model is conditional: give y, by labelled data (a class column or class folders) or --label where one draws"
)


class Stateful:
    """A module with state that no gradient moves; a forward pass never changes it."""

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return what the state is to learn from a pass, as sums over its rows, so that parts of a batch add up."""
        return {}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Change the state, once for each optimiser step, from the statistics of that step's whole batch."""
        raise NotImplementedError


Sums: TypeAlias = dict[tuple[int, str], Tensor]
"""What stateful modules learn from, by the number of the module and the name of the sum."""


def learned(modules: Iterable[Stateful], trace: Trace, batch: Batch) -> Sums:
    """Return what modules are to learn from a pass."""
    with torch.no_grad():
        each = [module.statistics(trace, batch) for module in modules]
    return {(i, name): value.detach() for i, sums in enumerate(each) for name, value in sums.items()}


class Starting:
    """A module that starts from examples of the training data, such as a prior made of them."""

    wants: int
    """How many examples it wants."""

    def start_from(self, examples: Batch) -> None:
        """Start from these examples (as many as it wants, or all there are), drawn without replacement."""
        raise NotImplementedError


class Scale(nn.Parameter):
    """A parameter that is the log of a likelihood's variance: one number decides how much every value counts.

    An optimiser that moves each parameter by about its learning rate a step would take thousands of steps to bring it
    to where the network is; it learns at `SCALE_LR` at least (`train/update.py`).
    """


class Family(nn.Module):
    """A map from a tensor of parameters to a `Distribution`; it declares what it needs and where it lives.

    A subclass sets `event_shape`, `params` (the shape of the tensor it reads for one example) and `support`, and
    gives `forward(params [..., *self.params]) -> Distribution`.
    """

    event_shape: tuple[int, ...]
    params: tuple[int, ...]
    support: Support
    has_density = True
    discrete = False
    reparameterised = True
    """True if draws carry a gradient (`rsample`); families of discrete values have none."""
    rescorable = True
    """True if `log_prob` scores any value, and not only what was just drawn (a planar flow)."""
    factorised = True
    """True if the dimensions are independent, so that `elements()` splits them."""
    grouped = "Flat"
    """The group of one latent variable with this posterior."""
    target = "log p(x)"
    """The quantity that `log_prob` of a decoder's family makes a bound on."""
    marginal = True
    """True if `log_prob` with a mask is the density of the observed cells, whichever they are."""
    space: tuple[object, ...] = ()
    """What must be the same in a posterior and a prior beside their support: curvatures, the parts of a product."""
    additive = False
    """True if a value is its parameters plus independent normal noise, whose variance they do not change."""
    estimated = False
    """True if `log_prob` of one value is a draw, whose expectation is a bound."""

    @property
    def prior_shape(self) -> tuple[int, ...]:
        """Shape of what a prior part gives probabilities of: z itself, unless that stands for something else."""
        return tuple(self.event_shape)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of what a decoder reads of z: z itself, most often."""
        return tuple(self.event_shape)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the parameter tensor `[*self.params]` whose distribution has the data's mean, and set own scales.

        Args:
            mean: mean of what `observations` makes of the training data, `[*event_shape]` unless it says otherwise.
            variance: their variance, the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot start at the data's mean")

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values whose mean `bias_for` reads, and 1 where they are observed; x itself, most often."""
        return x, mask

    def forward(self, params: Tensor) -> Distribution:
        """Return the distribution with these parameters, batch shape `[...]`."""
        raise NotImplementedError


class Network(nn.Module):
    """A map `[N, *in_shape] -> [N, *out_shape]`; with `condition` > 0 it also reads y `[N, condition]`."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    condition: int = 0
    reads_mask = False
    """True if `forward(x, y, mask)` also reads which values are observed."""
    rounds = False
    """True if values of the input are numbers of symbols: the output has no gradient for them."""
    affine = False
    """True if the output is a matrix times the input, and y, plus a bias."""

    def start_at(self, bias: Tensor) -> None:
        """Set the bias of the output to `bias` `[*out_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} has no output bias")

    def check(self, x: Tensor, y: Tensor | None) -> None:
        """Raise ShapeError if x or y is not what this network was built for."""
        if tuple(x.shape[1:]) != tuple(self.in_shape):
            raise ShapeError(
                f"{type(self).__name__} was given an input of shape {tuple(x.shape[1:])}",
                expected=f"{tuple(self.in_shape)} for each example",
            )
        if self.condition and (y is None or y.shape[-1] != self.condition):
            given = "no condition y" if y is None else f"a condition of size {y.shape[-1]}"
            raise ShapeError(
                f"{type(self).__name__} was given {given}",
                expected=f"one-hot labels y of size {self.condition}",
                fix=NEEDS_Y,
            )


@recorded
class Conditional(nn.Module):
    """A conditional distribution: a network that feeds a family.

    Raises:
        ShapeError: if the network's output is not what the family reads.
    """

    def __init__(self, network: Network, family: Family) -> None:
        super().__init__()
        if tuple(network.out_shape) != tuple(family.params):
            raise ShapeError(
                f"{type(network).__name__} gives {tuple(network.out_shape)} to a {type(family).__name__}",
                expected=f"{tuple(family.params)}",
                fix="build the network with out_shape=family.params",
            )
        self.network, self.family = network, family

    def start_at(self, mean: Tensor, variance: Tensor) -> None:
        """Set the output bias (and the family's own scales) to the mean and variance of the training data."""
        with torch.no_grad():
            self.network.start_at(self.family.bias_for(mean, variance))

    def forward(self, context: Tensor, y: Tensor | None = None) -> Distribution:
        """Return p(.|context, y); context `[..., *in_shape]`, y `[B, C]`, batch shape `[...]`."""
        events = len(self.network.in_shape)
        return self.family(folded(self.network, (context, events), (y if self.network.condition else None, 1)))


@recorded
class Encoder(nn.Module):
    """Networks from what is seen to one feature for each latent group; cells with mask 0 are seen as 0.

    Args:
        networks: each reads what is seen, one for each group, unless `uses` is given.
        uses: makes the networks a chain, from the bottom up: the first reads what is seen, each other what the one
            before it gives, and group i gets the output of network `uses[i]`.

    Raises:
        ShapeError: if a network of a chain does not read what the one before it gives.
        UsageError: if `uses` names a network that is not there.
    """

    def __init__(self, networks: Sequence[Network], uses: Sequence[int] | None = None) -> None:
        super().__init__()
        self.networks, self.uses = nn.ModuleList(networks), None if uses is None else tuple(uses)
        if self.uses is None:
            return
        if not all(0 <= i < len(networks) for i in self.uses):
            raise UsageError(
                f"groups cannot use the networks {self.uses}", expected=f"numbers from 0 to {len(networks) - 1}"
            )
        for lower, upper in pairwise(networks):
            if tuple(lower.out_shape) != tuple(upper.in_shape):
                raise ShapeError(
                    f"{type(upper).__name__} reads {tuple(upper.in_shape)}, and {type(lower).__name__} before it "
                    f"gives {tuple(lower.out_shape)}",
                    expected="networks of a chain that fit",
                )

    def forward(
        self, x: Float[Tensor, "B *event"], y: Tensor | None = None, mask: Tensor | None = None
    ) -> list[Tensor]:
        """Return one feature `[B, ...]` for each group, top to bottom."""
        seen = x if mask is None else torch.where(mask.bool(), x, 0.0)
        found: list[Tensor] = []
        for i, network in enumerate(self.networks):
            read = seen if i == 0 or self.uses is None else found[-1]
            found.append(network(read, y, mask) if network.reads_mask else network(read, y))  # pyright: ignore[reportCallIssue]
        return found if self.uses is None else [found[i] for i in self.uses]


class Group(nn.Module, ABC):
    """One latent variable: its prior, its posterior, and how z enters the state."""

    posterior_family: Family
    prior_support: Support = "real"
    prior_space: tuple[object, ...] = ()
    prior_discrete = False
    prior_estimated = False
    """True if log p(z) is itself an estimate, from below."""
    prior_tempers = False
    """True if the prior can be drawn from at any temperature though its values are not real numbers."""
    borrows = False
    """True if the prior is made of posteriors, which `infer` lends it."""
    shares = False
    """True if q(z|x) also reads what p(z) is computed from, so that both move the same weights."""

    @abstractmethod
    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(z|state, y); `infer` lends the top posterior."""

    @abstractmethod
    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|state, feature); p is None where the posterior is lent to a prior."""

    @abstractmethod
    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the next state `[K, B, ...]`."""

    def posterior_parts(self) -> tuple[nn.Module, ...]:
        """Return the modules that belong to q alone; a group with networks of its own for q names them too."""
        return (self.posterior_family,)


class Relation(nn.Module, ABC):
    """How what the encoder saw and what the groups above expect become a posterior."""

    def check(self, given: Family, prior: Family) -> None:
        """Raise Incompatible if the relation is not made for these families; most are made for normals."""

    @abstractmethod
    def forward(self, given: Any, p: Any) -> Distribution:
        """Return q(z|x, state) of the distribution that the networks give, and of p(z|state)."""


@recorded
class VAE(nn.Module):
    """A variational autoencoder: encoder, latent groups, decoder (Kingma & Welling 2014, arXiv 1312.6114).

    Args:
        encoder: gives one feature for each group.
        groups: latent groups, top to bottom.
        decoder: the likelihood p(x|z), from the last group's state.
        spec: the data it was built for.
    """

    def __init__(
        self, encoder: Encoder, groups: Sequence[Group], decoder: Conditional, spec: DataSpec | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.groups, self.decoder, self.spec = encoder, nn.ModuleList(groups), decoder, spec

    @property
    def has_density(self) -> bool:
        """True if log p(x) can be bounded: no posterior is a point, and the decoder is a density."""
        return self.decoder.family.has_density and all(g.posterior_family.has_density for g in self._groups())

    @property
    def conditional(self) -> bool:
        """True if the decoder or a prior reads a condition y."""
        return any(isinstance(m, Network) and m.condition for m in self.modules())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weights = next(self.parameters(), None)
        return torch.device("cpu") if weights is None else weights.device

    def forward(self, batch: Batch, num_samples: int = 1, source: Source = from_posterior) -> Trace:
        """Pass a batch through the model with K = num_samples latent samples for each example."""
        state, latents = self.visit(batch, num_samples, source)
        px = self.decoder(state, batch.y)
        log_px = px.log_prob(batch.x, batch.mask).expand(num_samples, batch.x.shape[0])
        return Trace(latents, px, log_px, torch.full_like(log_px, -math.log(num_samples)))

    def visit(self, batch: Batch, num_samples: int = 1, source: Source = from_posterior) -> tuple[Tensor, Latents]:
        """Return the state that is decoded, `[K, B, *state]`, and the latents of a pass with K samples for each row."""
        mask = batch.mask if batch.seen_mask is None else batch.seen_mask
        features = self.encoder(batch.x if batch.seen is None else batch.seen, batch.y, mask)
        lent = Lent(self.infer, batch.index if self.training else None)
        return walk(self._groups(), features, batch.y, lent, source, (num_samples, batch.x.shape[0]))

    def infer(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Distribution:
        """Return the top posterior q(z|x, y); it asks no prior, since priors may be made of it."""
        return self._groups()[0].posterior(None, self.encoder(x, y, mask)[0], None)

    def encode(self, x: Float[Tensor, "B *event"], y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the mean of the top posterior, `[B, *latent]`; cells where `mask` is 0 are not looked at."""
        with inference(self):
            return self.infer(*self._here(x, y, mask)).mean

    def decode(
        self, z: Float[Tensor, "B *latent"], y: Tensor | None = None, *, show: Show = "mean", seed: int | None = None
    ) -> Float[Tensor, "B *event"]:
        """Return the mean of p(x|z), or a draw from it; deeper groups, if any, take their prior's mean.

        Raises:
            ShapeError: if z is not what the top group's posterior gives, or y is missing.
        """
        wanted = self._groups()[0].posterior_family.event_shape
        if tuple(z.shape[1:]) != tuple(wanted):
            raise ShapeError(f"codes of shape {tuple(z.shape[1:])} were given", expected=f"{tuple(wanted)} for each")
        shape = (1, z.shape[0])
        z, y, _ = self._here(z, y)
        with inference(self), seeded(*_shown_keys(seed)):
            state, _ = walk(self._groups(), None, y, self.infer, observe({0: z[None]}, mode), shape, scored=False)
            return _shown(self.decoder(state, y), show)

    def sample(
        self,
        num: int,
        y: Tensor | None = None,
        *,
        temperature: float | Sequence[float] = 1.0,
        show: Show = "mean",
        seed: int | None = None,
    ) -> Float[Tensor, "B *event"]:
        """Draw z from the prior and return the mean of p(x|z), or a draw from it, for each.

        A `temperature` other than 1 shrinks (or stretches) each z towards (from) its prior's mean: for a normal prior
        its standard deviation is multiplied by it. 0 gives the mean of the prior. The logits of codes that a prior
        guesses one after the other are divided by it; 0 takes the most probable. Several are for the groups, top to
        bottom.

        Raises:
            UsageError: if a number is out of its range, or there are not as many temperatures as groups.
            ShapeError: if there are not as many labels as samples.
        """
        if num < 1:
            raise UsageError(f"cannot draw {num} samples", expected="a whole number of at least 1")
        if y is not None and y.shape[0] != num:
            raise ShapeError(f"{y.shape[0]} labels were given for {num} samples", expected="one for each")
        self.check_temperature(temperature)
        y = None if y is None else y.to(next(self.parameters()))
        with inference(self), seeded(*_shown_keys(seed)):
            state, _ = walk(self._groups(), None, y, self.infer, unscored(temperature), (1, num), scored=False)
            return _shown(self.decoder(state, y), show)

    def reconstruct(
        self,
        x: Float[Tensor, "B *event"],
        y: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        source: Source = mode,
        show: Show = "mean",
        seed: int | None = None,
    ) -> Float[Tensor, "B *event"]:
        """Encode x, take the posterior's mean (or draw: `source=from_posterior`), and decode it."""
        with inference(self), seeded(*_shown_keys(seed)):
            x, y, mask = self._here(x, y, mask)
            return _shown(self(Batch(x, y=y, mask=mask), 1, source).px, show)

    def check_temperature(self, temperature: float | Sequence[float]) -> None:
        """Raise UsageError unless there is one for all groups or one for each, and each means something to its prior.

        A number that is negative or not finite is refused by the source that draws.
        """
        groups = self._groups()
        each = list(temperature) if isinstance(temperature, Sequence) else [temperature] * len(groups)
        if len(each) != len(groups):
            raise UsageError(
                f"{len(each)} temperatures were given for {len(groups)} latent group{'s' * (len(groups) > 1)}",
                expected="one, or one for each group, top to bottom",
            )
        for number, (group, value) in enumerate(zip(groups, each, strict=True), 1):
            if value == 1 or group.prior_support == "real" or group.prior_tempers:
                continue
            which = "this prior" if len(groups) == 1 else f"the prior of group {number} of {len(groups)}"
            if group.prior_support == "codes":
                raise UsageError(
                    f"the temperature cannot be {value}: to {which} all codes are alike",
                    expected="1, or a prior that tells codes apart",
                    fix="fit one first: lowerbound fit-prior RUN --prior transformer",
                )
            raise UsageError(
                f"the temperature cannot be {value}: draws would leave the {group.prior_support} values of {which}",
                expected="1",
            )

    def _here(
        self, x: Tensor, y: Tensor | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        weights = next(self.parameters(), x)
        return x.to(weights), None if y is None else y.to(weights), None if mask is None else mask.to(weights)

    def _groups(self) -> list[Any]:
        return list(self.groups)


def _shown_keys(seed: int | None) -> tuple[int | None, ...]:
    return (Stream.SHOWN, seed)


def _shown(px: Distribution, show: Show) -> Tensor:
    if show not in ("mean", "draw"):
        raise UsageError(f"cannot show {show!r}", expected="mean or draw")
    return (px.mean if show == "mean" else px.sample())[0]


def spec_of(model: VAE) -> DataSpec:
    """Return the spec of a model.

    Raises:
        UsageError: if it has none.
    """
    if model.spec is None:
        raise UsageError("the model does not know its data", fix="train it by a recipe, or give VAE a `spec`")
    return model.spec


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Run in evaluation mode and without gradients, and restore each module's mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training
