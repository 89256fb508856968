"""The moving average of weights, the late cosine, and parts that start from training examples."""

import math

import pytest
import torch
from torch import nn
from training_parts import data, recipe

from lowerbound import fit, load
from lowerbound.core.errors import UsageError
from lowerbound.core.model import Starting
from lowerbound.core.recipe import Training
from lowerbound.train.checkpoint import checkpoints
from lowerbound.train.fit import resume
from lowerbound.train.learning_rate import learning_rate
from lowerbound.train.log import Listeners
from lowerbound.train.loop import Loop
from lowerbound.train.run import Stop
from lowerbound.train.starting import start_from_examples

CPU = torch.device("cpu")


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_average_is_the_recursion_by_hand_and_is_what_is_kept():
    seen = []
    made = recipe(data()).replace(training=Training(epochs=2, batch_size=5, ema=0.3))
    loop = Loop(made, data(valid_fraction=0.0), 3, CPU, "float32")
    step = loop._step

    def watched(*batch):
        outcome = step(*batch)
        seen.append(flat(loop.learner.model))
        return outcome

    loop._step = watched

    run = loop.run(Stop(), None, Listeners([]))
    expected = seen[0]
    for n, weights in enumerate(seen[1:], 1):
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(flat(run.model), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(flat(run.model), seen[-1], rtol=1e-4)


def test_a_stopped_run_goes_on_with_its_average(tmp_path):
    options = {"batch_size": 20, "ema": 0.9, "progress": False, "report": False, "lr_schedule": "constant"}
    whole = fit(recipe(data()), data(), epochs=4, out=tmp_path / "whole", **options)
    fit(recipe(data()), data(), epochs=2, out=tmp_path / "parts", **options)
    again = resume(tmp_path / "parts", data(), epochs=4, progress=False, report=False)
    assert torch.equal(flat(again.model), flat(whole.model))
    assert len(checkpoints(tmp_path / "parts" / "checkpoints")) >= 1
    assert torch.equal(flat(load(tmp_path / "parts")), flat(whole.model))


def test_buffers_are_the_models_own():
    made = recipe(data()).replace(training=Training(epochs=1, batch_size=20, ema=0.5))
    loop = Loop(made, data(), 0, CPU, "float32")
    loop.learner.model.register_buffer("places", torch.tensor([3, 7, 11]))
    loop.learner.average.module.register_buffer("places", torch.tensor([3, 7, 10]))
    loop.learner.average.update_parameters(loop.learner.model)  # the first of all is a copy, whatever is averaged
    loop.learner.model.places.add_(torch.tensor([0, 0, 2]))
    loop.learner.average.update_parameters(loop.learner.model)
    assert loop.learner.kept.places.tolist() == [3, 7, 13]


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UsageError, match="ema"):
        Training(ema=decay)


def test_constant_cosine_is_constant_for_two_thirds():
    made = recipe(data()).replace(training=Training(epochs=9, batch_size=100, lr=0.5, lr_schedule="constant_cosine"))
    rates = [learning_rate(made.training, step, 9) for step in range(9)]
    assert rates[:7] == [0.5] * 7
    assert rates[7:] == pytest.approx([0.25 * (1 + math.cos(math.pi / 3)), 0.25 * (1 + math.cos(2 * math.pi / 3))])


def rates_of(**options):
    """Return the learning rates of twelve steps."""
    training = Training(epochs=12, batch_size=100, lr=0.5, **options)
    return [learning_rate(training, step, 12) for step in range(12)]


def test_steps_of_the_learning_rate():
    assert rates_of(lr_schedule="step") == pytest.approx([0.5] * 6 + [0.05] * 3 + [0.005] * 3)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_warm_up_rises_to_the_schedule(schedule):
    plain, warm = rates_of(lr_schedule=schedule), rates_of(lr_schedule=schedule, lr_warmup=3)
    assert warm[:3] == pytest.approx([plain[i] * (i + 1) / 4 for i in range(3)])
    assert warm[3:] == plain[3:]
    with pytest.raises(UsageError, match="warm-up of the learning rate"):
        Training(lr_warmup=-1)


class Memory(Starting, nn.Module):
    """Keeps the examples it starts from."""

    wants = 5

    def __init__(self):
        super().__init__()
        self.got = None

    def start_from(self, examples):
        self.got = examples


def test_parts_start_from_different_training_rows_drawn_by_the_seed():
    rows = data()
    loop = Loop(recipe(data()), rows, 7, CPU, "float32")
    found = []
    for seed in (7, 7, 8):
        part = Memory()
        start_from_examples(part, loop.rows.train, seed)
        found.append(part.got.index.tolist())
        everything = {int(i): x for i, x in zip(rows.train.places, rows.train.values(), strict=True)}
        assert part.got.x.shape == (5, 1, 5, 7)
        for i, x in zip(found[-1], part.got.x, strict=True):
            grey = everything[i]
            assert bool(((x == 0) | (x == 1)).all()), "binarised as in training"
            assert bool((x[grey == 0] == 0).all())
    assert len(set(found[0])) == 5
    assert found[0] == found[1] != found[2]
