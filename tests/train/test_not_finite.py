"""A number that is not finite: named, never stepped on, and the last good state is kept and saved."""

import json

import pytest
import torch
from safetensors.torch import load_file
from training_parts import SEEN, Poisoned, data, recipe, weights

from lowerbound import load
from lowerbound.core.errors import TrainingFailed
from lowerbound.core.record import recorded
from lowerbound.families import Bernoulli
from lowerbound.train.fit import fit
from lowerbound.train.update import Guard

AT = 7  # the third step of the second of three epochs
OPTIMIZERS = ["adam", "adamw", "sgd", "adamax"]
WHAT = ["distortion", "loss of model", "gradient of model"]


def fail(tmp_path, what, optimizer="adam", at=AT):
    SEEN.clear()
    of = data()
    made = recipe(of, Poisoned(at, what), optimizer=optimizer)
    with pytest.raises(TrainingFailed) as caught:
        fit(made, of, out=tmp_path / "run", progress=False, report=False)
    return caught.value, made, of


def saved(tmp_path):
    """Return the tensors of the newest checkpoint by the part they belong to."""
    tensors = load_file(sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "state.safetensors")
    parts = {"model": {}, "objective": {}, "optimizer": {}, "best": {}}
    for key, tensor in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = tensor
    return parts


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_last_good_weights_are_kept_whatever_broke(optimizer, what, tmp_path):
    error, _, _ = fail(tmp_path, what, optimizer)
    assert error.exit_code == 3
    assert what in str(error)
    assert f"step {AT}" in str(error)
    state = saved(tmp_path)
    assert state["model"].keys() == SEEN["good"].keys()
    for name, tensor in SEEN["good"].items():
        assert torch.equal(state["model"][name], tensor), name
    assert all(bool(tensor.isfinite().all()) for tensor in state["optimizer"].values())


def test_the_objectives_own_state_does_not_take_the_broken_step_either(tmp_path):
    # A running average that has met one NaN is NaN for ever.
    fail(tmp_path, "distortion")
    assert torch.equal(saved(tmp_path)["objective"]["average"], SEEN["average"])


def test_without_a_run_folder_the_error_brings_the_last_good_state():
    SEEN.clear()
    of = data()
    with pytest.raises(TrainingFailed) as caught:
        fit(recipe(of, Poisoned(2, "distortion")), of, progress=False)
    run = caught.value.run
    assert (run.status, run.exit_code, run.folder) == ("failed", 3, None)
    assert all(torch.equal(run.model.state_dict()[name], tensor) for name, tensor in SEEN["good"].items())


def test_the_model_saved_is_the_best_whole_epoch(tmp_path):
    _, made, of = fail(tmp_path, "distortion")
    first = fit(made, of, epochs=1, progress=False)
    assert weights(load(tmp_path / "run")) == weights(first.model)


def test_a_failure_in_the_first_step_still_leaves_a_model_that_loads(tmp_path):
    error, made, of = fail(tmp_path, "loss of model", at=0)
    assert "step 0" in str(error)
    initial = fit(made, of, epochs=0, progress=False)
    assert weights(load(tmp_path / "run")) == weights(initial.model)


def test_the_run_folder_says_that_it_failed_and_why(tmp_path):
    error, _, _ = fail(tmp_path, "gradient of model")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["error"] == str(error)
    assert status["step"] <= AT + 1  # a CPU need not wait for anything, so it stops at once
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "failed"
    assert "gradient of model" in events[-1]["error"]


def test_a_failed_fit_leaves_the_callers_generator_as_it_was(tmp_path):
    before = torch.get_rng_state()
    fail(tmp_path, "distortion")
    assert torch.equal(torch.get_rng_state(), before)


@recorded
class Fragile(Bernoulli):
    """A likelihood whose logits break in the fifth pass of its training."""

    def forward(self, params):
        self.passes = getattr(self, "passes", 0) + self.training
        return super().forward(params * torch.nan if self.passes == 5 else params)


def test_a_family_that_breaks_is_named_by_its_term(tmp_path):
    of = data()
    made = recipe(of)
    decoder = type(made.decoder)(made.decoder.network, Fragile(of.spec.shape))
    with pytest.raises(TrainingFailed, match=r"distortion.* at step 4") as caught:
        fit(made.replace(decoder=decoder), of, progress=False, report=False, out=tmp_path / "run")
    assert "rate" not in str(caught.value).splitlines()[0]
    assert all(bool(tensor.isfinite().all()) for tensor in load(tmp_path / "run").state_dict().values())


def test_the_guard_names_what_broke_first_and_skips_every_step_from_then_on():
    guard = Guard(torch.device("cpu"))
    fine, nan = torch.ones(5), torch.tensor([1.0, float("nan")])
    assert guard.failed() is None
    assert float(guard.watch({"a": fine, "b": fine, "c": fine}, torch.tensor(0.0))) == 0
    assert guard.failed() is None
    assert float(guard.watch({"a": fine, "b": nan, "c": torch.tensor([-torch.inf])}, torch.tensor(1.0))) == 1
    assert float(guard.watch({"a": nan, "b": fine, "c": fine}, torch.tensor(2.0))) == 1
    assert float(guard.watch({"a": fine, "b": fine, "c": fine}, torch.tensor(3.0))) == 1
    assert guard.failed() == ("b and c", 1)
