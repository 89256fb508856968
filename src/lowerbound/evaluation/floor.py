"""What no honest model of binarised pixels can score: the alarm for test rows that have leaked."""

import math

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..data.dataset import Dataset

MOST_ROWS = 10_000  # the comparison of all rows with all takes some seconds for so many
CERTAIN = math.log(1e6)  # nats: odds of a false alarm
_NEVER = 1e-12  # stands for the probability of a 1 where the grey value is 0, so that logits are finite


def binarisation_entropy(rows: Dataset) -> Tensor:
    r"""Return the entropy of the 0/1 pixels of each row given its grey values, `[N]` float64 in nats.

    H_i = -sum_d [g_d log g_d + (1 - g_d) log(1 - g_d)], where pixel d is 1 with probability g_d.

    Raises:
        UsageError: if the rows were not drawn from grey ones.
    """
    grey = _grey(rows)
    return torch.cat([_entropy(part).flatten(1).sum(1) for part in grey.split(1000)])


def least_nll(rows: Dataset) -> float:
    """Return log N + mean_i H_i in nats: what the best distribution scores that is told all N grey images.

    A distribution that knows the grey values of the test images, and not how their pixels were drawn, does best as the
    mixture of their Bernoullis with equal weights. Where images overlap it scores a little less than this.

    Raises:
        UsageError: if the rows were not drawn from grey ones.

    >>> from lowerbound import load_data
    >>> data = load_data("digits")
    >>> rows = data.test.matching(data.spec.settle("binary"))
    >>> round(least_nll(rows), 1)
    18.7
    """
    return math.log(len(rows)) + float(binarisation_entropy(rows).mean())


def leaked(rows: Dataset, log_px: Tensor) -> bool:
    r"""Return whether scores are higher than a model that has not seen the test pixels could give.

    Let m be the mixture of least_nll over these N rows. For any distribution p that is independent of how the pixels
    were drawn, the mean over i of E_i[p(x_i) / m(x_i)] is at most 1, and so is the mean of the product over all rows;
    by Markov's inequality sum_i [log p(x_i) - log m(x_i)] exceeds log(1 / a) with probability a at most, and the same
    holds of an unbiased estimate of p(x). Here a is one in a million.

    Args:
        rows: binarised rows that know their grey values (`Dataset.matching`).
        log_px: log p(x) of each, in nats, `[N]`.

    Raises:
        UsageError: if the rows were not drawn from grey ones.
    """
    rows, log_px = rows.take(MOST_ROWS), log_px[:MOST_ROWS].double().cpu()
    most = -(math.log(len(rows)) + binarisation_entropy(rows))
    if float((log_px - most).sum()) < -50 * math.sqrt(len(rows)):  # far below: no need to compare all with all
        return False
    return float((log_px - _log_mixture(rows)).sum()) > CERTAIN


def _log_mixture(rows: Dataset) -> Tensor:
    """Return log 1/N sum_j p(x_i | grey_j) of each row, `[N]` float64."""
    grey, x = _grey(rows).flatten(1).clamp(_NEVER, 1 - _NEVER), rows.values().cpu().double().flatten(1)
    logits, base = torch.logit(grey), torch.log1p(-grey).sum(1)
    each = [torch.logsumexp(part @ logits.T + base, 1) for part in x.split(1000)]
    return torch.cat(each) - math.log(len(rows))


def _grey(rows: Dataset) -> Tensor:
    grey = rows.grey_values()
    if grey is None:
        raise UsageError(
            f"the pixels of {rows.spec.name} were not drawn from grey ones", expected="dynamic binarisation"
        )
    return grey.cpu().double()


def _entropy(p: Tensor) -> Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
