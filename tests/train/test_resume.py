"""A stopped run that goes on ends with the weights it would have had; a finished one takes more epochs; fine-tuning."""

import json
import shutil
import signal

import pytest
import torch
from filelock import FileLock
from training_parts import Ear, data, recipe, weights

from lowerbound import fit, from_arrays, load, recipes, resume
from lowerbound.core.errors import DataError, Incompatible, UsageError
from lowerbound.core.recipe import Recipe
from lowerbound.train.checkpoint import checkpoints
from lowerbound.train.saving import Passed, SaveEvery


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


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_cut_off_when_patience_had_ended_takes_no_further_epoch(tmp_path, of, killed):
    how = {"epochs": 9, "patience": 2, "lr": 1e-30, "progress": False, "report": False}  # nothing gets better
    listeners = () if killed else (Interrupt(3),)
    fit(recipe(of), of, out=tmp_path / "run", listeners=listeners, **how)
    status = tmp_path / "run" / "status.json"
    before = json.loads(status.read_text())
    assert (before["epoch"], before["status"]) == (3, "done" if killed else "stopped")
    if killed:
        status.write_text(json.dumps({**before, "status": "running"}))
    run = resume(tmp_path / "run", of, progress=False, report=False)
    assert (run.history, run.status, json.loads(status.read_text())["epoch"]) == ([], "done", 3)


def test_a_run_stopped_inside_an_epoch_cannot_end_before_it(tmp_path, of, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    made = recipe(of, epochs=4)
    fit(made, of, progress=False, report=False, out=tmp_path / "run", listeners=(Interrupt(2, inside=True),))
    with pytest.raises(UsageError, match="1 epochs and a part of another already"):
        resume(tmp_path / "run", of, epochs=1, progress=False, report=False)
    run = resume(tmp_path / "run", of, epochs=4, progress=False, report=False)
    assert weights(run.model) == weights(fit(made, of, progress=False).model)


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


def test_without_a_checkpoint_it_begins_at_the_first_step(tmp_path, of):
    fit(recipe(of, epochs=1), of, seed=5, progress=False, report=False, out=tmp_path / "run")
    for name in ("checkpoints", "model"):
        shutil.rmtree(tmp_path / "run" / name)
    with pytest.raises(DataError, match="no checkpoint"):
        resume(tmp_path / "run", of, epochs=2, progress=False, report=False)  # it is done, not cut off
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "status": "running"}))
    run = resume(tmp_path / "run", of, epochs=2, progress=False, report=False)
    assert weights(run.model) == weights(fit(recipe(of, epochs=2), of, seed=5, progress=False).model)
    assert "going on after step 0" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_that_was_killed_after_its_last_epoch_is_ended(tmp_path, of):
    made = fit(recipe(of, epochs=2), of, progress=False, report=False, out=tmp_path / "run")
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "status": "running"}))
    run = resume(tmp_path / "run", of, progress=False, report=False)
    assert (run.status, json.loads(status.read_text())["status"]) == ("done", "done")
    assert weights(run.model) == weights(made.model)
    with pytest.raises(UsageError, match="2 epochs already"):
        resume(tmp_path / "run", of, epochs=1, progress=False, report=False)


def test_a_fine_tuned_run_keeps_where_it_started(tmp_path, of):
    first = fit(recipe(of, epochs=1), of, seed=1, progress=False).model
    whole = fit(recipe(of, epochs=2), of, seed=2, init=first, progress=False)
    fit(recipe(of, epochs=0), of, seed=2, init=first, progress=False, report=False, out=tmp_path / "run")
    run = resume(tmp_path / "run", of, epochs=2, progress=False, report=False)
    assert weights(run.model) == weights(whole.model)


@pytest.mark.parametrize("save_every", ["3 steps", "1 epoch", "0.001 minutes"])
def test_going_on_inside_an_epoch_changes_no_number(tmp_path, of, monkeypatch, save_every):
    """The checkpoints before the last are removed, and the run is taken up from there as if it had been killed."""
    clock = iter(range(10_000)).__next__
    monkeypatch.setattr("lowerbound.train.progress.time.monotonic", clock)
    monkeypatch.setattr("lowerbound.train.checkpoint.KEEP", 100)
    made = recipe(of, epochs=3)
    whole = fit(made, of, seed=3, progress=False, report=False, out=tmp_path / "whole", save_every=save_every)
    kept = checkpoints(tmp_path / "whole" / "checkpoints")
    per_epoch = int(kept[-1].name.removeprefix("step-")) // 3
    inside = [path for path in kept if int(path.name.removeprefix("step-")) % per_epoch]
    assert bool(inside) == (save_every != "1 epoch")
    for path in kept[:-1]:
        shutil.copytree(tmp_path / "whole", tmp_path / path.name)
        for other in kept[kept.index(path) + 1 :]:
            shutil.rmtree(tmp_path / path.name / "checkpoints" / other.name)
        run = resume(tmp_path / path.name, of, progress=False, report=False)
        assert weights(run.model) == weights(whole.model)
        assert (run.best, run.best_epoch) == (whole.best, whole.best_epoch)
        last = [{k: v for k, v in row.items() if k != "seconds"} for row in (run.history[-2:] + whole.history[-2:])]
        assert last[:2] == last[2:]


def test_two_trainers_cannot_share_a_folder(tmp_path, of):
    fit(recipe(of, epochs=1), of, progress=False, report=False, out=tmp_path / "run")
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(UsageError, match="trained by another process"):
        resume(tmp_path / "run", of, epochs=2, progress=False, report=False)
    assert resume(tmp_path / "run", of, epochs=2, progress=False, report=False).status == "done"
    with pytest.raises(UsageError, match="epochs already"):
        resume(tmp_path / "run", of, progress=False, report=False)
    assert resume(tmp_path / "run", of, epochs=3, progress=False, report=False).status == "done", "the lock was left"


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path, of):
    fit(recipe(of, epochs=1), of, progress=False, report=False, out=tmp_path / "run")
    left = tmp_path / "run" / "checkpoints" / ".tmp-step-000009-1-abcd"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epo')
    resume(tmp_path / "run", of, epochs=2, progress=False, report=False)
    assert not left.exists()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("resume") == 1


@pytest.mark.parametrize(
    ("words", "amount", "unit"),
    [("500 steps", 500, "steps"), ("1step", 1, "steps"), (" 2 epochs ", 2, "epochs"), ("0.5 minutes", 0.5, "minutes")],
)
def test_how_often_is_read(words, amount, unit):
    assert SaveEvery.of(words) == SaveEvery(float(amount), unit)


@pytest.mark.parametrize("words", ["", "5", "0 steps", "1.5 epochs", "-1 steps", "ten minutes", "5 hours", "1e3 steps"])
def test_how_often_is_refused(words, of):
    with pytest.raises(UsageError, match="cannot save every"):
        fit(recipe(of), of, save_every=words, progress=False)


def test_it_is_due_when_so_much_has_passed():
    before = Passed(100, 4, 60.0)
    for every, steps, epochs, seconds in (
        ("7 steps", 107, 4, 60.0),
        ("2 epochs", 100, 6, 60.0),
        ("2 minutes", 100, 4, 180.0),
    ):
        after = SaveEvery.of(every)
        assert after.due(before, Passed(steps, epochs, seconds))
        assert not after.due(before, Passed(106, 5, 179.0))


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
