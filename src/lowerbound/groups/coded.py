"""Latents that are codes: their prior is one of codes, and the decoder reads their vectors."""

from torch import Tensor, nn

from ..core.codes import Embedded, Quantizer
from ..core.distribution import Distribution
from ..core.errors import Incompatible
from ..core.model import Network
from ..core.record import recorded
from ..core.types import Infer
from ..core.walk import folded
from .flat import GroupWithPrior, Prior
from .ladder import together


@recorded
class Coded(GroupWithPrior):
    """Codes that the decoder reads, or the levels below; the state is their vectors, summed over stages.

    Args:
        posterior_family: rounds the encoder's feature to codes.
        prior_part: P(codes), or P(codes|y).
    """

    posterior_family: Quantizer

    def __init__(self, posterior_family: Quantizer, prior_part: Prior) -> None:
        super().__init__(posterior_family, prior_part)

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return P(z|y), of the codes' vectors."""
        return Embedded(self.prior_part(y, infer), self.posterior_family)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x) from the encoder's feature `[B, dim, *places]`."""
        return self.posterior_family(feature)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the vectors `[K, B, dim, *places]`."""
        return z.sum(-len(self.posterior_family.event_shape))


@recorded
class CodedLevel(GroupWithPrior):
    """Codes below other ones: q reads what the encoder saw and the state, and so may the prior.

    Razavi et al. 2019, "Generating Diverse High-Fidelity Images with VQ-VAE-2", arXiv 1906.00446, alg. 1.

    Args:
        posterior_family: rounds to codes.
        prior_part: P(codes|state); it is given the state as its condition y.
        above: from the state to the image that joins the feature, and then the vectors.
        looks: from the feature and that image, joined, to what is rounded.
    """

    posterior_family: Quantizer
    shares = True

    def __init__(self, posterior_family: Quantizer, prior_part: Prior, above: Network, looks: Network) -> None:
        super().__init__(posterior_family, prior_part)
        self.above, self.looks = above, looks

    def _image(self, state: Tensor | None) -> Tensor:
        if state is None:
            raise Incompatible("a CodedLevel was put at the top of a model", fix="put a Coded group above it")
        return folded(self.above, (state, len(self.above.in_shape)))

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return P(z|state), of the codes' vectors."""
        return Embedded(self.prior_part(state, infer), self.posterior_family)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x, state) from the feature `[B, C, *places]`."""
        dims = len(self.posterior_family.params)
        seen = together(feature, self._image(state), dims)
        return self.posterior_family(folded(self.looks, (seen, dims)))

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the vectors and the image of the state, joined, `[K, B, dim + C, *places]`."""
        vectors = z.sum(-len(self.posterior_family.event_shape))
        return together(vectors, self._image(state), len(self.posterior_family.params))

    def posterior_parts(self) -> tuple[nn.Module, ...]:
        """Return what belongs to q alone."""
        return (self.posterior_family, self.looks)
