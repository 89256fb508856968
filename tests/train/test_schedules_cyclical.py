"""The cyclical schedule against its definition."""

import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.core.record import describe, rebuild
from lowerbound.objectives import ELBO
from lowerbound.train.schedules import Cyclical


@pytest.mark.parametrize(("period", "ramp", "cycles"), [(10, 0.5, 3), (7, 1.0, 2), (4, 0.25, 1), (9, 0.7, 5)])
def test_each_cycle_rises_and_stays_and_the_last_value_is_the_end(period, ramp, cycles):
    schedule = Cyclical(0.5, 2.5, period, ramp, cycles)
    expected = []
    for _ in range(cycles):
        for t in range(period):
            expected.append(0.5 + 2.0 * min(1.0, t / period / ramp))
    expected += [2.5] * 30
    found = [float(schedule(torch.tensor(float(step)))) for step in range(len(expected))]
    assert found == pytest.approx(expected, abs=1e-6)
    assert schedule.settled == ELBO(beta=schedule).settled == period * cycles
    assert describe(rebuild(describe(schedule))) == describe(schedule)


@pytest.mark.parametrize("wrong", [{"period": 0}, {"ramp": 0.0}, {"ramp": 1.5}, {"cycles": 0}])
def test_impossible_cycles_are_refused(wrong):
    with pytest.raises(UsageError):
        Cyclical(0.0, 1.0, **{"period": 10, **wrong})
