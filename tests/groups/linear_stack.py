"""Two linear-Gaussian levels made of the package's own groups, as a ladder or a stack, whose posterior is exact.

z_top ~ N(0, I); z_d ~ N(a_d z_top_d, t_d^2), the third z without a parent; x_d ~ N(c_d z_d, s^2), the last two alone.
"""

import math

import torch

from lowerbound import VAE
from lowerbound.core.model import Conditional, Encoder
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat, Level, Stacked
from lowerbound.networks import MLP
from lowerbound.posteriors import Direct, PrecisionWeighted, Residual
from lowerbound.priors import StandardNormal

TOP, LOW, X = 2, 3, 5
A = torch.tensor([0.8, -1.3, 0.0], dtype=torch.float64)
T = torch.tensor([0.7, 0.4, 1.1], dtype=torch.float64)
C = torch.tensor([1.5, -0.6, 0.9], dtype=torch.float64)
S = 0.5


def some_x(rows):
    """Return `rows` examples in float64 from a generator of their own."""
    return torch.randn(rows, X, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def log_p(x):
    """Return the exact log p(x) in nats: every x_d is normal around 0."""
    variance = torch.cat([C.square() * (A.square() + T.square()), torch.zeros(X - LOW).double()]) + S**2
    return -0.5 * (x.square() / variance + variance.log() + math.log(2 * math.pi)).sum(-1)


def eye(rows, columns, values):
    """Return a matrix `[rows, columns]` with `values` on its diagonal."""
    matrix, count = torch.zeros(rows, columns, dtype=torch.float64), min(rows, columns)
    matrix[range(count), range(count)] = values[:count]
    return matrix


def linear(*weights, variance):
    """Return a network from the joined inputs to the mean `sum_i W_i input_i` and a constant log variance."""
    matrix = torch.cat(weights, 1)
    size, wide = matrix.shape
    network = MLP((wide,), (2, size), hidden=()).double()
    with torch.no_grad():
        network.out.weight.copy_(torch.cat([matrix, torch.zeros_like(matrix)]))
        network.out.bias.copy_(torch.cat([torch.zeros(size).double(), variance.log()]))
    return network


def look(matrix):
    """Return the network that multiplies by a matrix."""
    network = MLP((matrix.shape[1],), (matrix.shape[0],), hidden=()).double()
    with torch.no_grad():
        network.out.weight.copy_(matrix)
        network.out.bias.zero_()
    return network


def decoder():
    """Return p(x|z)."""
    return Conditional(look(eye(X, LOW, C)), FixedNormal((X,), S))


def exact_ladder(relation, *, chained=False):
    """Return the ladder with its exact posterior, whose lower level gets it by `relation`."""
    noise = C.square() * T.square() + S**2  # of x_d given z_top
    slope = A * C
    spread = 1 / (1 + slope.square() / noise)
    top = linear(eye(TOP, X, spread * slope / noise), variance=spread[:TOP])
    precision = 1 / T.square() + C.square() / S**2
    seen, expected = eye(LOW, X, C / S**2 / precision), eye(LOW, TOP, A / T.square() / precision)
    if isinstance(relation, PrecisionWeighted):  # the likelihood of z alone
        looks = linear(eye(LOW, X, 1 / C), variance=S**2 / C.square())
    elif isinstance(relation, Residual):
        looks = linear(seen, expected - eye(LOW, TOP, A), variance=1 / precision / T.square())
    else:
        looks = linear(seen, expected, variance=1 / precision)
    low = Normal((LOW,))
    prior = Conditional(linear(eye(LOW, TOP, A), variance=T.square()), low)
    joined = not isinstance(relation, PrecisionWeighted)
    groups = [Flat(Normal((TOP,)), StandardNormal((TOP,))), Level(prior, low, relation, looks, sees_state=joined)]
    same = look(torch.eye(X).double())
    encoder = Encoder([same, top], uses=(1, 0)) if chained else Encoder([top, same])
    return VAE(encoder, groups, decoder()).double()


def exact_stack():
    """Return the stack with its exact posterior: q(z|x), and q(z_top|z)."""
    around = A.square() + T.square()  # variance of z
    precision = 1 / around + C.square() / S**2
    first = linear(eye(LOW, X, C / S**2 / precision), variance=1 / precision)
    spread = 1 / (1 + (A / T).square())
    up = linear(eye(TOP, LOW, spread * A / T.square()), variance=spread[:TOP])
    down = linear(eye(LOW, TOP, A), variance=T.square())
    low, high = Normal((LOW,)), Normal((TOP,))
    group = Stacked(low, [Conditional(up, high)], StandardNormal((TOP,)), [Conditional(down, low)])
    return VAE(Encoder([first]), [group], decoder()).double()


RELATIONS = (Direct(), Residual(), PrecisionWeighted())
