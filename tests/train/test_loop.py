"""The loop: batches, means, early stopping, the best weights, learning rates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from joint_parts import Numbered
from training_parts import SEEN, Ear, Scripted, Watched, data, note_updates, recipe, weights

from lowerbound import from_arrays
from lowerbound.core.errors import DataError, ShapeError, TrainingFailed, UsageError
from lowerbound.objectives import ELBO
from lowerbound.train import Linear
from lowerbound.train.fit import fit

quiet = {"progress": False}


def test_every_row_is_visited_once_an_epoch_and_the_last_batch_may_be_short(monkeypatch):
    updates = note_updates(monkeypatch)
    SEEN.clear()
    x = np.random.default_rng(0).normal(size=(44, 3))
    x[:, 0] = np.arange(44)
    of = from_arrays(x, valid_fraction=0.0, test_fraction=0.0)
    made = recipe(of, Watched(), epochs=2, batch_size=10)
    fit(made, of, **quiet)
    assert [u.rows for u in updates] == [10, 10, 10, 10, 4] * 2
    orders = [torch.cat([b.x[:, 0] for b in SEEN["batches"][5 * e : 5 * e + 5]]).int().tolist() for e in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(44))
    assert orders[0] != orders[1]


def test_an_epochs_number_is_the_mean_over_rows_not_over_batches():
    x = np.random.default_rng(0).normal(size=(44, 3))
    x[:, 0] = np.arange(44) ** 2
    of = from_arrays(x, valid_fraction=0.0, test_fraction=0.0)
    run = fit(recipe(of, Numbered(), epochs=1, batch_size=43), of, **quiet)
    assert run.history[0]["elbo"] == pytest.approx(float((np.arange(44) ** 2).mean()), rel=1e-9)


def test_a_batch_larger_than_the_data_is_the_data(monkeypatch):
    updates = note_updates(monkeypatch)
    of, ear = data(), Ear()
    run = fit(recipe(of), of, batch_size=1000, epochs=2, listeners=(ear,), **quiet)
    assert [u.rows for u in updates] == [44, 44]
    assert any("1000" in line and "44" in line for line in ear.lines)
    same = fit(recipe(of), of, batch_size=44, epochs=2, **quiet)
    assert weights(run.model) == weights(same.model)


def test_no_epochs_give_the_initial_model(tmp_path):
    of = data()
    made = recipe(of)
    run = fit(made, of, epochs=0, out=tmp_path / "run", **quiet)
    assert (run.status, run.exit_code, run.history) == ("done", 0, [])
    initial = made.build(0)[0].state_dict()
    for name, tensor in run.model.state_dict().items():
        # the output's bias alone is moved, to the data's mean
        assert torch.equal(tensor, initial[name]) == (name != "decoder.network.out.bias"), name
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_cannot_be_trained_on(rows):
    of = data()
    with pytest.raises(DataError, match=f"{rows} training examples"):
        fit(recipe(of), replace(of, train=replace(of.train, x=of.train.x[:rows], y=None)), **quiet)


def test_without_a_validation_split_the_training_numbers_decide():
    of = data(valid_fraction=0.0)
    run = fit(recipe(of, Scripted((1.0, 3.0, 2.0), steps=6)), of, epochs=3, **quiet)
    assert {row["split"] for row in run.history} == {"train"}
    assert len(run.history) == 3


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_weights_kept_are_those_of_the_best_epoch(best, lower):
    of = data()
    script = [0.0] * 4
    script[best - 1] = -1.0 if lower else 1.0
    run = fit(recipe(of, Scripted(tuple(script), 5, lower=lower)), of, epochs=4, **quiet)
    until = fit(recipe(of, Scripted(tuple(range(4)), 5)), of, epochs=best, **quiet)
    assert weights(run.model) == weights(until.model)
    assert len(run.history) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_monitor_that_is_not_finite_on_the_validation_rows_ends_training_with_the_best_so_far(value):
    of = data()
    with pytest.raises(TrainingFailed, match="validation") as caught:
        fit(recipe(of, Scripted((0.0, 1.0, value), 5)), of, epochs=4, **quiet)
    assert caught.value.exit_code == 3
    assert caught.value.run.status == "failed"
    assert weights(caught.value.run.model) == weights(
        fit(recipe(of, Scripted((0.0, 1.0), 5)), of, epochs=2, **quiet).model
    )


@pytest.mark.parametrize(
    ("script", "patience", "settles", "epochs"),
    [
        ((3, 2, 1, 1, 1, 1, 1, 1), 2, 0, 3),  # best at 1, two worse
        ((1, 2, 3, 2, 2, 2, 2, 2), 3, 0, 6),
        ((1, 2, 3, 4, 5, 6, 7, 8), 1, 0, 8),  # always better
        ((3, 3, 3, 3, 3, 3, 3, 3), 1, 0, 2),  # equal is not better
        ((3, 2, 1, 1, 1, 1, 1, 1), 2, 20, 6),  # a schedule settles after 4 epochs of 5 steps
        ((3, 2, 1, 1, 1, 1, 1, 1), 2, 18, 6),  # ... in the middle of epoch 4
        ((3, 2, 1, 1, 1, 1, 1, 1), 2, 1000, 8),  # never settles
        ((3, 2, 1, 1, 1, 1, 1, 1), None, 0, 8),
    ],
)
def test_patience_counts_epochs_since_the_best_and_since_the_schedules_settled(script, patience, settles, epochs):
    of, ear = data(), Ear()
    objective = Scripted(tuple(float(v) for v in script), 5, settles)
    run = fit(recipe(of, objective, patience=patience), of, epochs=8, listeners=(ear,), **quiet)
    assert run.history[-1]["epoch"] == epochs
    assert run.status == "done"
    assert any("stopping" in line for line in ear.lines) == (epochs < 8)


def test_a_warm_up_settles_when_its_schedule_does():
    assert ELBO(beta=Linear(0.0, 1.0, 17)).settled == 17
    assert ELBO(beta=0.5).settled == 0


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("constant", 0.02)])
def test_learning_rates(schedule, last, monkeypatch):
    updates = note_updates(monkeypatch)
    of = data()
    fit(recipe(of), of, epochs=8, lr=0.02, lr_schedule=schedule, **quiet)
    rates = [u.rates[0] for u in updates]
    assert len(rates) == 40
    assert rates[0] == 0.02
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(last, abs=0.02 * 0.002)
    assert rates[20] == pytest.approx((0.02 + last) / 2)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "adamax"])
def test_each_optimizer_trains(optimizer):
    of = data(binarize="static-seed")
    run = fit(recipe(of), of, optimizer=optimizer, lr=3e-3, epochs=16, weight_decay=1e-3, **quiet)
    train = [row["elbo"] for row in run.history if row["split"] == "train"]
    assert train[-1] > train[0]


def test_optimizers_and_weight_decay_differ():
    of = data()
    kinds = [{"optimizer": name} for name in ("adam", "adamw", "sgd", "adamax")]
    kinds += [{"optimizer": name, "weight_decay": 0.3} for name in ("adam", "adamw", "sgd", "adamax")]
    found = [weights(fit(recipe(of, **kind), of, epochs=1, **quiet).model) for kind in kinds]
    different = {tuple(sorted(w.items())) for w in found}
    assert len(different) == len(kinds) - 1  # without decay, adam and adamw are one
    assert found[0] == found[1]


def test_bfloat16_networks_keep_wide_weights_and_terms():
    of = data()
    run = fit(recipe(of, Watched()), of, epochs=1, precision="bf16", **quiet)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert all(math.isfinite(row["elbo"]) for row in run.history)
    assert weights(run.model) != weights(fit(recipe(of, Watched()), of, epochs=1, **quiet).model)


def test_data_unlike_the_recipes_are_refused():
    of, other = data(), from_arrays(np.random.default_rng(0).integers(0, 256, (60, 7, 5), dtype=np.uint8))
    with pytest.raises(ShapeError, match=r"\(1, 7, 5\)"):
        fit(recipe(of), other, **quiet)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**63}, {"device": "abacus"}, {"epochs": -1}, {"lr": 0.0}])
def test_options_out_of_range(options):
    of = data()
    with pytest.raises(UsageError):
        fit(recipe(of), of, **options, **quiet)


def test_fit_works_outside_the_main_thread_where_signals_cannot_be_caught():
    from concurrent.futures import ThreadPoolExecutor

    of = data()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(fit, recipe(of), of, epochs=1, **quiet).result()
    assert run.status == "done"
