"""Posteriors that round what the encoder gives to codes of a book or a grid."""

from collections.abc import Mapping
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..core.codes import Quantized, Quantizer
from ..core.distribution import wide
from ..core.errors import UsageError
from ..core.model import Stateful
from ..core.record import recorded
from ..core.types import Batch, Trace

Book: TypeAlias = Literal["ema", "gradient"]
_FAR = 0.7978845608  # sqrt(2 / pi): how far from the mean, in deviations, each half of a normal has its own


@recorded
class VectorQuantizer(Quantizer, Stateful):
    r"""The nearest of `classes` learned vectors at each place: z = e_k, k = argmin_j |h - e_j|.

    van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv 1711.00937, eq. 1 to 3 and, for the
    running means, appendix A.1. With several stages each rounds what those before it left (residual quantisation: Lee
    et al. 2022, arXiv 2203.01941, eq. 3 to 5). The cost in training is, summed over places and stages,
    commitment |h - sg(e)|^2, and |sg(h) - e|^2 where the book is learned by gradient.

    A code that no place has used for `window` steps is revived: the code in most use is split in two along the axis of
    its largest variance (Linde, Buzo & Gray 1980), and their statistics with it.

    Args:
        places: the grid of codes, such as (7, 7).
        dim: length of a vector.
        classes: number of codes of each stage.
        stages: number of codes at each place.
        commitment: weight of |h - sg(e)|^2.
        book: "ema": vectors are running means of what was rounded to them; "gradient": they are parameters.
        decay: share of a running mean that a step keeps.
        window: steps after which unused codes are revived, and `usage` is told anew.

    Raises:
        UsageError: if a number is out of its range.

    >>> q = VectorQuantizer((7, 5), dim=4, classes=16)(torch.zeros(3, 4, 7, 5))
    >>> q.codes.shape, q.rsample().shape, q.penalty.shape
    (torch.Size([3, 1, 7, 5]), torch.Size([3, 1, 4, 7, 5]), torch.Size([3]))
    """

    codebook: Tensor
    count: Tensor
    total: Tensor
    square: Tensor
    used: Tensor
    usage: Tensor
    steps: Tensor

    def __init__(
        self,
        places: tuple[int, ...],
        dim: int = 16,
        classes: int = 128,
        stages: int = 1,
        commitment: float = 0.25,
        book: Book = "ema",
        decay: float = 0.99,
        window: int = 100,
    ) -> None:
        super().__init__()
        _check_counts(places=min(places, default=1), dim=dim, stages=stages, window=window)
        _check_classes(classes)
        if book not in ("ema", "gradient"):
            raise UsageError(f"there is no book {book!r}", expected="ema or gradient")
        if not 0 <= decay < 1 or not 0 <= commitment < float("inf"):
            raise UsageError(
                f"decay cannot be {decay} with commitment {commitment}", expected="0 <= decay < 1, commitment 0 or more"
            )
        self.params, self.event_shape = (dim, *places), (stages, dim, *places)
        self.classes, self.commitment, self.book, self.decay, self.window = classes, commitment, book, decay, window
        start = torch.randn(stages, classes, dim) * 0.1
        if book == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
        for name, shape in (("count", (stages, classes)), ("total", start.shape), ("square", start.shape)):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("used", "usage"):
            self.register_buffer(name, torch.zeros(stages, classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, params: Tensor) -> Quantized:
        """Round `[..., dim, *places]`."""
        h = self._vectors(wide(params))  # [..., *places, dim]
        rest, parts, inputs, codes, costs = h, [], [], [], []
        for book in self.codebook.to(h.dtype):
            code = _nearest(rest.detach(), book)
            e = book[code]
            costs.append(self.commitment * (rest - e.detach()).square())
            if self.book == "gradient":
                costs.append((rest.detach() - e).square())
            for kept, one in ((parts, e), (inputs, rest), (codes, code)):
                kept.append(one)
            rest = rest - e.detach()
        first = h.ndim - 1 - len(self.places)
        penalty = torch.stack(costs).sum(0).flatten(first).sum(-1)
        rounded = self._joined(inputs)
        return Quantized(self, wide(params), self._joined(parts), torch.stack(codes, first), rounded, penalty)

    def _vectors(self, x: Tensor) -> Tensor:
        """Move the axis `dim` of `[..., dim, *places]` to the end."""
        return x.movedim(-1 - len(self.places), -1)

    def _joined(self, stages: list[Tensor]) -> Tensor:
        """Return `[..., stages, dim, *places]` of a list of `[..., *places, dim]`."""
        axis = -1 - len(self.places)
        return torch.stack([one.movedim(-1, axis) for one in stages], axis - 1)

    def codes(self, z: Tensor) -> Tensor:
        """Return which codes have these vectors, `[..., stages, *places]`."""
        axis = -2 - len(self.places)
        each = zip(z.unbind(axis), self.codebook.to(z.dtype), strict=True)
        return torch.stack([_nearest(self._vectors(one), book) for one, book in each], axis + 1)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes `[..., stages, *places]`."""
        each = zip(codes.unbind(-1 - len(self.places)), self.codebook, strict=True)
        return self._joined([book[code] for code, book in each]).detach()

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return how often each code was used, and sums of what was rounded to it and of its squares."""
        q = next(q for q in (latent.q for latent in trace.latents) if isinstance(q, Quantized) and q.quantizer is self)
        axis = len(q.batch_shape)
        rounded = self._vectors(q.rounded).movedim(axis, 0).flatten(1, -2)  # [stages, N, dim]
        which = nn.functional.one_hot(q.codes.movedim(axis, 0).flatten(1), self.classes).to(rounded)
        return {
            "count": which.sum(1),
            "total": which.transpose(1, 2) @ rounded,
            "square": which.transpose(1, 2) @ rounded.square(),
        }

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Move the running means, and the book with them; revive codes where a window ends."""
        for name in ("count", "total", "square"):
            buffer: Tensor = getattr(self, name)
            buffer.mul_(self.decay).add_(sums[name].to(buffer), alpha=1 - self.decay)
        self.used.add_(sums["count"].to(self.used))
        self.steps.add_(1)
        if self.book == "ema":
            there = sums["count"].to(self.count) > 0
            means = self.total / self.count.clamp_min(torch.finfo(self.count.dtype).tiny)[..., None]
            self.codebook.copy_(torch.where(there[..., None], means, self.codebook))
        if int(self.steps) >= self.window:
            self.usage.copy_(self.used)
            for stage in range(len(self.codebook)):
                self._revive(stage)
            self.used.zero_()
            self.steps.zero_()

    def _revive(self, stage: int) -> None:
        """Let each code that was not used take over half of the code in most use."""
        used = self.used[stage].clone()
        for dead in (used == 0).nonzero()[:, 0].tolist():
            busy = int(used.argmax())
            if used[busy] < 2:
                return
            self._split(stage, busy, dead)
            used[[busy, dead]] = used[busy] / 2

    def _split(self, stage: int, busy: int, dead: int) -> None:
        """Divide a code, and its statistics, into the two halves of a normal along its widest axis."""
        count, total, square, book = (getattr(self, name)[stage] for name in ("count", "total", "square", "codebook"))
        mean = total[busy] / count[busy]
        variance = (square[busy] / count[busy] - mean.square()).clamp_min(0)
        axis = int(variance.argmax())
        step = torch.zeros_like(mean)
        step[axis] = _FAR * variance[axis].sqrt()
        left = variance - step.square()
        count[[busy, dead]] = count[busy] / 2
        for code, centre in ((busy, mean - step), (dead, mean + step)):
            book[code] = centre
            total[code] = count[code] * centre
            square[code] = count[code] * (left + centre.square())


@recorded
class FiniteScalarQuantizer(Quantizer):
    r"""Each number of the encoder's vector, squashed and rounded to one of a few levels: no book, and no cost.

    Mentzer et al. 2024, "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv 2309.15505, sec. 3. With levels L_d a
    place has prod_d L_d codes, and its vector lies on a grid in [-1, 1]^D.

    Args:
        places: the grid of codes, such as (7, 7).
        levels: number of levels of each number; (8, 5, 5, 5) are 1,000 codes.

    Raises:
        UsageError: if there are no numbers, or one of fewer than two levels.

    >>> fsq = FiniteScalarQuantizer((2,), (5, 4))
    >>> fsq.classes, fsq(torch.tensor([[9.0, 0.1], [-9.0, 0.1]])).value[0].tolist()
    (20, [[1.0, 0.0], [-1.0, 0.0]])
    """

    halves: Tensor
    weights: Tensor

    def __init__(self, places: tuple[int, ...], levels: tuple[int, ...] = (8, 5, 5, 5)) -> None:
        super().__init__()
        _check_counts(places=min(places, default=1), levels=min(levels, default=0))
        if min(levels) < 2:
            raise UsageError(f"the levels cannot be {tuple(levels)}", expected="two or more each, such as (8, 5, 5, 5)")
        self.params, self.event_shape = (len(levels), *places), (1, len(levels), *places)
        self.levels, self.classes = tuple(levels), prod(levels)
        after = (len(levels), *(1 for _ in places))
        self.register_buffer("halves", torch.tensor([n // 2 for n in levels]).view(after), persistent=False)
        sizes = torch.tensor([prod(levels[:d]) for d in range(len(levels))]).view(after)
        self.register_buffer("weights", sizes, persistent=False)

    def _bounded(self, h: Tensor) -> Tensor:
        """Squash `[..., D, *places]` so that rounding gives -(L // 2), ..., (L - 1) // 2 (their appendix A.1)."""
        levels = torch.tensor(self.levels, device=h.device).view(self.halves.shape).to(h.dtype)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 1, 0.0, 0.5)
        return (h + (offset / half).atanh()).tanh() * half - offset

    def forward(self, params: Tensor) -> Quantized:
        """Round `[..., D, *places]`."""
        path = self._bounded(wide(params)) / self.halves
        value = ((path.detach() * self.halves).round() / self.halves).unsqueeze(path.ndim - len(self.params))
        return Quantized(self, path, value, self.codes(value))

    def codes(self, z: Tensor) -> Tensor:
        """Return the codes of these vectors: the digits of a number in which each level is a base."""
        digits = (z * self.halves).round().long() + self.halves
        return (digits * self.weights).sum(-1 - len(self.places))

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes `[..., 1, *places]`."""
        levels = torch.tensor(self.levels, device=codes.device).view(self.halves.shape)
        digits = codes.unsqueeze(-1 - len(self.places)) // self.weights % levels
        return (digits - self.halves) / self.halves.to(torch.get_default_dtype())


@recorded
class LookupFreeQuantizer(Quantizer, Stateful):
    r"""The sign of each number of the encoder's vector: 2^D codes without a book.

    Yu et al. 2024, "Language Model Beats Diffusion", arXiv 2310.05737, eq. 5 and 6. The cost in training is, summed
    over places, commitment |h - sg(z)|^2 + weight (E[H(p)] - H(E[p])) with p_d = sigmoid(4 h_d / temperature): each
    sign is to be sure, and both signs are to be in use. The entropies are those of single signs, which bound the
    joint ones from above, and E[p] is a running mean over steps, so that no example's loss depends on another's.

    Args:
        places: the grid of codes, such as (7, 7).
        dim: number of signs; 8 are 256 codes.
        commitment: weight of |h - sg(z)|^2.
        weight: weight of the entropies.
        temperature: of p; small ones make it surer.
        decay: share of the running mean that a step keeps.

    Raises:
        UsageError: if a number is out of its range.

    >>> LookupFreeQuantizer((2,), dim=3)(torch.tensor([[0.3, -2.0], [0.1, 1.0], [-5.0, 4.0]])).codes.tolist()
    [[3, 6]]
    """

    share: Tensor
    bits: Tensor

    def __init__(
        self,
        places: tuple[int, ...],
        dim: int = 8,
        commitment: float = 0.25,
        weight: float = 0.1,
        temperature: float = 1.0,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        _check_counts(places=min(places, default=1), dim=dim)
        if dim > 24:
            raise UsageError(f"2^{dim} codes are too many", expected="dim of 24 at most")
        if min(commitment, weight) < 0 or temperature <= 0 or not 0 <= decay < 1:
            raise UsageError(
                f"commitment {commitment}, weight {weight}, temperature {temperature} and decay {decay} cannot be",
                expected="weights of 0 or more, a temperature above 0, 0 <= decay < 1",
            )
        self.params, self.event_shape, self.classes = (dim, *places), (1, dim, *places), 2**dim
        self.commitment, self.weight, self.temperature, self.decay = commitment, weight, temperature, decay
        self.register_buffer("share", torch.full((dim,), 0.5))
        bits = 2 ** torch.arange(dim).view(dim, *(1 for _ in places))
        self.register_buffer("bits", bits, persistent=False)

    def forward(self, params: Tensor) -> Quantized:
        """Take the signs of `[..., dim, *places]`."""
        h = wide(params)
        value = torch.where(h > 0, 1.0, -1.0).to(h)
        logits = 4 * h / self.temperature
        p = logits.sigmoid()
        unsure = nn.functional.softplus(logits) - p * logits  # the entropy of p
        share = self.share.clamp(1e-4, 1 - 1e-4).to(h).view(-1, *(1 for _ in self.places))
        # -H(E[p]) is to first order in p that of the running mean and (p - share) logit(share)
        balance = share.logit() * (p - share) + share * share.log() + (1 - share) * (1 - share).log()
        cost = self.commitment * (h - value).square() + self.weight * (unsure + balance)
        stage = h.ndim - len(self.params)
        z = value.unsqueeze(stage)
        return Quantized(self, h, z, self.codes(z), penalty=cost.flatten(stage).sum(-1))

    def codes(self, z: Tensor) -> Tensor:
        """Return the codes of these signs: the bits of a number."""
        return ((z > 0).long() * self.bits).sum(-1 - len(self.places))

    def embed(self, codes: Tensor) -> Tensor:
        """Return the signs of codes `[..., 1, *places]`."""
        digits = codes.unsqueeze(-1 - len(self.places)) // self.bits % 2
        return 2.0 * digits - 1.0

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return sums over places of the probability of each sign being positive."""
        q = next(q for q in (latent.q for latent in trace.latents) if isinstance(q, Quantized) and q.quantizer is self)
        p = (4 * q.rounded / self.temperature).sigmoid().movedim(-1 - len(self.places), -1).flatten(0, -2)
        return {"positive": p.sum(0), "places": p.new_tensor(float(len(p)))}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Move the running mean."""
        self.share.lerp_((sums["positive"] / sums["places"]).to(self.share), 1 - self.decay)


def _nearest(h: Tensor, book: Tensor) -> Tensor:
    """Return the number of the nearest vector of the book `[K, D]` to each of `[..., D]`."""
    with torch.autocast(h.device.type, enabled=False):  # near codes would be one in half precision
        return (book.square().sum(-1) - 2 * h @ book.T).argmin(-1)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} cannot be {value}", expected="whole numbers above 0")


def _check_classes(classes: int) -> None:
    if not isinstance(classes, int) or classes < 2:
        raise UsageError(f"a place cannot choose from {classes} codes", expected="a whole number, 2 or more")
