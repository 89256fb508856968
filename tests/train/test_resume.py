"""A stopped run that goes on ends with the weights it would have had; a finished one takes more epochs; fine-tuning."""

import json
import signal

import pytest
import torch
from training_parts import Ear, data, recipe, weights

from lowerbound import fit, from_arrays, load, recipes, resume
from lowerbound.core.errors import DataError, Incompatible, UsageError
from lowerbound.core.recipe import Recipe
from lowerbound.train.checkpoint import checkpoints


class Interrupt(Ear):
    """Sends SIGINT at the end of an epoch's training rows, or in the middle of one."""

    def __init__(self, epoch, *, inside=False):
        super().__init__()
        self.epoch, self.inside = epoch, inside

    def event(self, event):
        if event["event"] == "epoch" and event["epoch"] == self.epoch and event["split"] == "valid" and not self.inside:
            signal.raise_signal(signal.SIGINT)

    def tick(self, epoch, step, steps):
        if self.inside and epoch == self.epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def of():
    return data()


@pytest.mark.parametrize(("schedule", "inside"), [("constant", False), ("cosine", False), ("cosine", True)])
def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(tmp_path, of, monkeypatch, schedule, inside):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)  # every step ticks
    made = recipe(of, epochs=5, lr_schedule=schedule)
    whole = fit(made, of, seed=3, progress=False, report=False, out=tmp_path / "whole")
    stopped = fit(
        made, of, seed=3, progress=False, report=False, out=tmp_path / "run", listeners=(Interrupt(2, inside=inside),)
    )
    assert stopped.status == "stopped"
    again = resume(tmp_path / "run", of, progress=False, report=False)
    assert again.status == "done"
    assert weights(again.model) == weights(whole.model)
    last = [checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("whole", "run")]
    assert last[0].name == last[1].name
    states = [(path / "state.safetensors").read_bytes() for path in last]
    assert states[0] == states[1]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["epoch"]) == ("done", 5)
    assert len((tmp_path / "run" / "command.txt").read_text().splitlines()) == 2


class InterruptAt(Ear):
    """Sends SIGINT after a step of an epoch."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at = epoch, step

    def tick(self, epoch, step, steps):
        if (epoch, step) == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("epoch", [3, 5])
def test_a_run_stopped_at_the_last_step_of_an_epoch_judges_it_first(tmp_path, of, monkeypatch, epoch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    made = recipe(of, epochs=5)
    whole = fit(made, of, seed=3, progress=False)
    stopped = fit(
        made, of, seed=3, progress=False, report=False, out=tmp_path / "run", listeners=(InterruptAt(epoch, 5),)
    )
    assert [e["epoch"] for e in stopped.history if e["split"] == "valid"] == list(range(1, epoch + 1))
    run = stopped if epoch == 5 else resume(tmp_path / "run", of, progress=False, report=False)
    assert weights(run.model) == weights(whole.model)
    assert (run.best_epoch, run.best) == (whole.best_epoch, whole.best)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, of):
    whole = fit(recipe(of, epochs=6), of, seed=3, progress=False)
    fit(recipe(of, epochs=2), of, seed=3, progress=False, report=False, out=tmp_path / "run")
    resume(tmp_path / "run", of, epochs=4, progress=False, report=False)
    newest = checkpoints(tmp_path / "run" / "checkpoints")[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    run = resume(tmp_path / "run", of, epochs=6, progress=False, report=False)
    assert weights(run.model) == weights(whole.model)
    assert "cannot be used" in (tmp_path / "run" / "log.txt").read_text()


def test_a_finished_run_takes_more_epochs(tmp_path, of):
    made = recipe(of, epochs=2)
    fit(made, of, seed=3, progress=False, report=False, out=tmp_path / "run")
    run = resume(tmp_path / "run", of, epochs=4, progress=False, report=False)
    whole = fit(recipe(of, epochs=4), of, seed=3, progress=False)
    assert weights(run.model) == weights(whole.model)  # the learning rate is constant
    assert [e["epoch"] for e in run.history if e["split"] == "train"] == [3, 4]
    assert Recipe.from_description(json.loads((tmp_path / "run" / "recipe.json").read_text())).training.epochs == 4
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert events.count("start") == events.count("resume") == 1
    assert weights(load(tmp_path / "run")) == weights(run.model)


def test_what_cannot_go_on_says_why(tmp_path, of):
    fit(recipe(of, epochs=2), of, progress=False, report=False, out=tmp_path / "run")
    with pytest.raises(UsageError, match="2 epochs already"):
        resume(tmp_path / "run", of, progress=False, report=False)
    with pytest.raises(UsageError, match="2 epochs already"):
        resume(tmp_path / "run", of, epochs=1, progress=False, report=False)
    with pytest.raises(DataError, match="is not what run was trained on"):
        resume(tmp_path / "run", data(rows=61), epochs=3, progress=False, report=False)
    for path in checkpoints(tmp_path / "run" / "checkpoints"):
        path.rename(path.with_name("elsewhere-" + path.name))
    with pytest.raises(DataError, match="no checkpoint"):
        resume(tmp_path / "run", of, epochs=3, progress=False, report=False)


def test_a_recipe_comes_back_from_its_description(of):
    made = recipe(of, weight_decay=0.25, augment=("flip",))
    again = Recipe.from_description(json.loads(json.dumps(made.describe())))
    assert again.describe() == made.describe()


def test_fine_tuning_starts_at_the_trained_weights(of):
    trained = fit(recipe(of), of, seed=1, progress=False)
    start = fit(recipe(of), of, epochs=0, seed=2, init=trained.model, progress=False)
    assert weights(start.model) == weights(trained.model)
    with pytest.raises(Incompatible, match="do not fit the new model") as refused:
        fit(recipes.vae(of.spec, latent_dim=3, hidden=(6,)), of, epochs=0, init=trained.model, progress=False)
    assert "(4, 6) in the trained model, (6, 6) in the new one" in str(refused.value)


def test_augmentation_changes_training_rows_alone(of):
    plain = fit(recipe(of), of, epochs=1, progress=False)
    moved = fit(recipe(of), of, epochs=1, augment=("shift", "flip"), progress=False)
    assert weights(moved.model) != weights(plain.model)
    again = fit(recipe(of), of, epochs=1, augment=("shift", "flip"), progress=False)
    assert weights(again.model) == weights(moved.model)
    zero = [fit(recipe(of), of, epochs=0, augment=names, progress=False) for names in ((), ("rotate",))]
    assert weights(zero[0].model) == weights(zero[1].model)  # the start is at the mean of the rows as they are


def test_binary_images_stay_binary_and_pairs_move_together():
    from dataclasses import replace

    from lowerbound.data.augment import Augment

    x = (torch.rand(30, 9, 8, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    of = from_arrays(x, seen=x, test_fraction=0.0, valid_fraction=0.0)
    rows = replace(of.train, augment=Augment(("rotate", "flip")))
    torch.manual_seed(0)
    batch = rows.batch(slice(None))
    assert set(batch.x.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(batch.x, (batch.seen >= 0.5).float())
    assert not torch.equal(batch.x, rows.values())


def test_only_images_are_augmented():
    of = from_arrays(torch.rand(20, 3))
    with pytest.raises(UsageError, match="cannot be augmented"):
        fit(recipes.vae(of.spec, latent_dim=1, hidden=(3,)), of, epochs=1, augment=("flip",), progress=False)


def test_a_row_of_weight_two_counts_as_two_rows(tmp_path):
    """One full-batch step of SGD on weighted rows equals that on repeated ones, for an objective without noise."""
    x = torch.rand(12, 3, generator=torch.Generator().manual_seed(2))
    weight = torch.tensor([1.0, 2.0, 3.0] * 4)
    split = {"test_fraction": 0.0, "valid_fraction": 0.0}
    given = [from_arrays(x, weight=weight, **split), from_arrays(x.repeat_interleave(weight.long(), 0), **split)]
    options = {"epochs": 1, "batch_size": 100, "optimizer": "sgd", "lr": 0.1, "lr_schedule": "constant"}
    recipe_of = recipes.ae(given[0].spec, latent_dim=2, hidden=(4,))
    init, _ = recipe_of.build(5)
    runs = [
        fit(recipes.ae(of.spec, latent_dim=2, hidden=(4,)), of, init=init, progress=False, **options) for of in given
    ]
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert runs[0].history[0]["distortion"] == pytest.approx(runs[1].history[0]["distortion"], rel=1e-6)
