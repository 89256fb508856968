"""How what the encoder saw and what the levels above expect become a level's posterior."""

from ..core.distribution import Distribution
from ..core.errors import Incompatible
from ..core.model import Family, Relation
from ..core.record import recorded
from ..families.normal import DiagonalNormal, Normal


class _OfNormals(Relation):
    def check(self, given: Family, prior: Family) -> None:
        if not all(isinstance(family, Normal) for family in (given, prior)):
            raise Incompatible(
                f"{type(self).__name__} was given a {type(given).__name__} posterior and a {type(prior).__name__} "
                "prior: it is made for two normals",
                where="relation x family",
                fix="use Normal for both, or Direct",
            )


@recorded
class Direct(Relation):
    """The posterior is what the networks give.

    >>> import torch
    >>> given = DiagonalNormal(torch.ones(2), torch.ones(2), 1)
    >>> Direct()(given, DiagonalNormal(torch.zeros(2), torch.ones(2), 1)) is given
    True
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, given: Distribution, p: Distribution) -> Distribution:
        """Return what was given."""
        return given


@recorded
class Residual(_OfNormals):
    r"""N(m_p + m, (s_p s)^2) of a prior N(m_p, s_p^2) and a given N(m, s^2): what the data change of what was expected.

    Vahdat & Kautz 2020, "NVAE", arXiv 2007.03898, eq. 2, where KL(q || p) = 1/2 sum (m^2 / s_p^2 + s^2 - log s^2 - 1).

    >>> import torch
    >>> p, given = (DiagonalNormal(*torch.tensor([[m], [s]]), 1) for m, s in ((4.0, 4.0), (1.0, 0.5)))
    >>> q = Residual()(given, p)
    >>> q.mean.item(), q.stddev.item()
    (5.0, 2.0)
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, given: DiagonalNormal, p: DiagonalNormal) -> Distribution:
        """Return the prior, moved and scaled."""
        return DiagonalNormal(p.loc + given.loc, p.scale * given.scale, len(given.event_shape))


@recorded
class PrecisionWeighted(_OfNormals):
    r"""The product of the given normal and the prior: precisions add up, means are averaged by them.

    1/s_q^2 = 1/s^2 + 1/s_p^2 and m_q = s_q^2 (m / s^2 + m_p / s_p^2). Sonderby et al. 2016, "Ladder Variational
    Autoencoders", arXiv 1602.02282, eq. 18 and 19. Where the given normal is the likelihood p(x|z) as a function of z,
    this is Bayes' rule.

    >>> import torch
    >>> one = DiagonalNormal(torch.tensor([2.0]), torch.ones(1), 1)
    >>> q = PrecisionWeighted()(one, DiagonalNormal(torch.zeros(1), torch.ones(1), 1))
    >>> q.mean.item(), round(q.variance.item(), 6)
    (1.0, 0.5)
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, given: DiagonalNormal, p: DiagonalNormal) -> Distribution:
        """Return the product, as a density."""
        # variance and mean by ratios, so that a very wide or very narrow one of the two cannot overflow
        seen, expected = given.scale.square(), p.scale.square()
        share = expected / (seen + expected)
        scale = (share * seen).sqrt()
        return DiagonalNormal(p.loc + share * (given.loc - p.loc), scale, len(given.event_shape))
