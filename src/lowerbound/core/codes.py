"""Codes: latents that take finitely many values, each with a vector that the decoder reads."""

from abc import abstractmethod

import torch
from torch import Size, Tensor

from .distribution import Distribution, Sizes
from .model import Family


class Quantizer(Family):
    """A posterior that is one code for each place: the encoder's vector there, rounded to one of finitely many.

    z holds the codes' vectors, `[..., stages, dim, *places]`; the decoder reads their sum over stages. A subclass sets
    `event_shape` so, `params` (dim, *places), and `classes`, the number of codes that each place and stage has.
    """

    support = "codes"
    discrete = True
    factorised = False
    grouped = "Coded"
    classes: int

    @property
    def places(self) -> tuple[int, ...]:
        """The grid on which the codes lie."""
        return tuple(self.event_shape[2:])

    @property
    def codes_shape(self) -> tuple[int, ...]:
        """Shape of the codes of one example: (stages, *places)."""
        return (self.event_shape[0], *self.places)

    @property
    def prior_shape(self) -> tuple[int, ...]:
        """Shape of the codes, which priors give probabilities of."""
        return self.codes_shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the vectors, summed over stages."""
        return tuple(self.event_shape[1:])

    @abstractmethod
    def codes(self, z: Tensor) -> Tensor:
        """Return which codes have the vectors z `[..., *event]`: whole numbers `[..., *codes_shape]`."""

    @abstractmethod
    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors `[..., *event]` of codes `[..., *codes_shape]`."""


class Quantized(Distribution):
    """All probability on one code for each place, so that log q(z|x) = 0.

    The draw is the code's vector to the last bit, and hands the decoder's gradient to the encoder as if nothing had
    been rounded (straight through: Bengio et al. 2013, arXiv 1308.3432).

    Args:
        quantizer: what rounded.
        path: what the encoder gave, `[..., dim, *places]`.
        value: vectors of the codes, `[..., *event]`.
        codes: which codes they are, `[..., *codes_shape]`.
        rounded: what each stage rounded, `[..., *event]`; None: `path`, of one stage.
        penalty: cost in training, `[...]`; None if there is none.
    """

    has_rsample = True

    def __init__(
        self,
        quantizer: Quantizer,
        path: Tensor,
        value: Tensor,
        codes: Tensor,
        rounded: Tensor | None = None,
        penalty: Tensor | None = None,
    ) -> None:
        cut = value.ndim - len(quantizer.event_shape)
        super().__init__(value.shape[:cut], value.shape[cut:])
        self.quantizer, self.path, self.value, self.codes, self.penalty = (
            quantizer,
            path,
            value.detach(),
            codes,
            penalty,
        )
        self.rounded = (path.unsqueeze(cut) if rounded is None else rounded).detach()

    @property
    def mean(self) -> Tensor:
        """The codes' vectors."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Return the codes' vectors, once for each sample."""
        stage = len(self.batch_shape)
        through = (self.path - self.path.detach()).unsqueeze(stage)  # zero, but for its gradient
        first, *others = self.value.split(1, stage)
        z = torch.cat([first + through, *others], stage) if others else first + through
        return z.expand(self._extended_shape(Size(sample_shape)))

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Return the codes' vectors and log 1 = 0."""
        z = self.rsample(shape)
        return z, z.new_zeros(z.shape[: z.ndim - len(self.event_shape)])

    def centre_and_log_prob(self) -> tuple[Tensor, Tensor]:
        """Return the codes' vectors and log 1 = 0."""
        return self.value, self.value.new_zeros(self.batch_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return 0 at these codes and -inf elsewhere, `[...]`; masked cells are not compared."""
        same = value == self.value
        if mask is not None:
            same = same | ~mask.bool()
        return torch.where(same.flatten(-len(self.event_shape)).all(-1), 0.0, -torch.inf)

    def entropy(self) -> Tensor:
        """Zero."""
        return self.value.new_zeros(self.batch_shape)


class Embedded(Distribution):
    """A distribution of codes as one of their vectors: P(z) is the probability of the codes of z.

    Args:
        codes: probabilities of codes, event `codes_shape`.
        quantizer: knows their vectors.
    """

    def __init__(self, codes: Distribution, quantizer: Quantizer) -> None:
        super().__init__(codes.batch_shape, Size(quantizer.event_shape))
        self.of_codes, self.quantizer = codes, quantizer

    @property
    def mean(self) -> Tensor:
        """The vectors of the most probable codes: an average of vectors would be none of them."""
        return self.quantizer.embed(self.of_codes.centre)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw codes and return their vectors."""
        with torch.no_grad():
            return self.quantizer.embed(self.of_codes.sample(sample_shape))

    def sample_at(self, temperature: float, sample_shape: Sizes = ()) -> Tensor:
        """Draw codes at a temperature and return their vectors."""
        with torch.no_grad():
            return self.quantizer.embed(self.of_codes.sample_at(temperature, sample_shape))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the log-probability of the codes of `value` in nats."""
        return self.of_codes.log_prob(self.quantizer.codes(value))
