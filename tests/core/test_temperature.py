"""A temperature scales the spread of the prior's draws about its mean, which stays where it is."""

import math

import pytest
import torch

from lowerbound.core.noise import seeded
from lowerbound.core.walk import from_prior, tempered
from lowerbound.families.normal import DiagonalNormal

K, B, LATENT = 3, 5, 2
LOC, SCALE = torch.tensor([4.0, -7.0]).double(), torch.tensor([0.5, 3.0]).double()


def drawn(source):
    with seeded(11):
        z, log_q, from_q = source(0, None, DiagonalNormal(LOC, SCALE, 1), (K, B))
    assert not from_q
    assert z.shape == (K, B, LATENT)
    return z, log_q


@pytest.mark.parametrize("temperature", [0.25, 1.0, 1.7])
def test_a_temperature_scales_the_spread_and_leaves_the_mean(temperature):
    plain, _ = drawn(from_prior)
    z, log_q = drawn(tempered(temperature))
    torch.testing.assert_close(z, LOC + temperature * (plain - LOC))
    torch.testing.assert_close(log_q, DiagonalNormal(LOC, temperature * SCALE, 1).log_prob(z))


def test_at_temperature_zero_every_draw_is_the_mean():
    z, log_q = drawn(tempered(0.0))
    assert torch.equal(z, LOC.expand(K, B, LATENT))
    assert bool((log_q == math.inf).all())
