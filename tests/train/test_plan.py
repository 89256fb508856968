"""How a training computes follows from the work, and a compiled training is the eager one."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import CorruptArtifact, UsageError
from lowerbound.core.noise import seeded
from lowerbound.train import plan
from lowerbound.train.loop import Loop
from lowerbound.train.plan import check_asked, choose, computing, small_as_zero

CPU = torch.device("cpu")
AUTO = ("auto", "auto")


@pytest.fixture(scope="module")
def digits():
    return lb.load_data("digits")


@pytest.fixture
def able(monkeypatch):
    """A machine that has all that the rule asks for."""
    monkeypatch.setattr(plan, "has_bf16", lambda device: True)
    monkeypatch.setattr(plan.shutil, "which", lambda name: f"/bin/{name}")


def chosen(recipe, data, steps, asked=AUTO):
    model, objective = recipe.build()
    rows = data.train.matching(recipe.spec, resample=True)
    made = choose(model, objective, rows, steps, 100, asked)
    return made.precision, made.kernels


def test_the_operations_of_a_step_are_those_of_its_matrix_products(digits):
    """A step multiplies 7 rows by each matrix forward, and twice backward; one product is 2 operations."""
    recipe = lb.recipes.vae(digits.spec, latent_dim=3, hidden=(11,))
    model, objective = recipe.build()
    numbers = 64 * 11 + 11 * (2 * 3) + 3 * 11 + 11 * 64
    work = plan._work(model, objective, digits.train.matching(recipe.spec, resample=True), 7)
    assert work == 3 * 2 * 7 * numbers


def test_short_trainings_are_eager_in_single_precision(digits, able):
    assert chosen(lb.recipes.vae(digits.spec), digits, plan.FEW - 1) == ("float32", "eager")
    assert chosen(lb.recipes.vae(digits.spec), digits, 20_000) == ("float32", "eager")


def test_long_trainings_are_compiled_in_half_precision(digits, able, monkeypatch):
    recipe = lb.recipes.vae(digits.spec)
    assert chosen(recipe, digits, 10**6) == ("bf16", "compiled")
    monkeypatch.setattr(plan, "LONG", 1.0)
    assert chosen(recipe, digits, plan.MANY - 1) == ("bf16", "eager")


def test_few_steps_are_compiled_if_each_is_much_work(digits, able, monkeypatch):
    recipe = lb.recipes.vae(digits.spec)
    work = plan._work(*recipe.build(), digits.train.matching(recipe.spec, resample=True), 100)
    monkeypatch.setattr(plan, "LONG", 1.0)
    for limit, kernels in ((plan.FEW * work, "compiled"), (plan.FEW * work + 1, "eager")):
        monkeypatch.setattr(plan, "VERY_LONG", limit)
        assert chosen(recipe, digits, plan.FEW) == ("bf16", kernels)


def test_what_is_asked_for_is_done(digits, able):
    recipe = lb.recipes.vae(digits.spec)
    assert chosen(recipe, digits, 10**6, ("float32", "eager")) == ("float32", "eager")
    assert chosen(recipe, digits, 10**6, ("float32", "auto")) == ("float32", "compiled")
    assert chosen(recipe, digits, 10**6, ("auto", "eager")) == ("bf16", "eager")
    assert chosen(recipe, digits, 1, ("bf16", "compiled")) == ("bf16", "compiled")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("continuous_bernoulli_vae", ("float32", "compiled")),  # values that are no zeros and ones
        ("sigma_vae", ("float32", "compiled")),  # values that are no zeros and ones, again
        ("vamp", ("float32", "compiled")),  # a prior with weights
        ("vae_iaf", ("float32", "compiled")),  # a flow
        ("factor_vae", ("bf16", "eager")),  # two players
        ("conv_vae", ("float32", "compiled")),  # narrow convolutions, which lose as products
        ("geco_vae", ("bf16", "compiled")),  # a multiplier that changes after each step
    ],
)
def test_what_does_not_suit_is_left_as_it_was(name, expected, digits, able):
    assert chosen(lb.recipes.find(name)(digits.spec), digits, 10**6) == expected


def test_wide_convolutions_are_products(digits, able):
    for channels, expected in (((64, 256), ("float32", "compiled")), ((128, 256), ("bf16", "eager"))):
        assert chosen(lb.recipes.conv_vae(digits.spec, channels=channels), digits, 10**6) == expected


def test_nothing_is_compiled_without_a_compiler(digits, able, monkeypatch):
    monkeypatch.setattr(plan.shutil, "which", lambda name: None)
    assert chosen(lb.recipes.vae(digits.spec), digits, 10**6) == ("bf16", "eager")


def test_a_processor_without_the_instructions_keeps_single_precision(digits, able, monkeypatch):
    monkeypatch.setattr(plan, "has_bf16", lambda device: False)
    assert chosen(lb.recipes.vae(digits.spec), digits, 10**6) == ("float32", "compiled")


@pytest.mark.parametrize("asked", [("float16", "auto"), ("auto", "fast")])
def test_unknown_ways_are_refused(asked):
    with pytest.raises(UsageError, match=r"float16|fast"):
        check_asked(*asked)


def test_threads_and_small_numbers_are_as_before_afterwards():
    tiny, before = torch.tensor(1e-30), torch.get_num_threads()
    with computing(1), small_as_zero():
        assert torch.get_num_threads() == 1
        assert float(tiny * 1e-10) == 0
        with small_as_zero():
            pass
        assert float(tiny * 1e-10) == 0
    assert torch.get_num_threads() == before
    assert float(tiny * 1e-10) > 0


def test_what_cannot_be_compiled_is_trained_all_the_same(digits, tmp_path, monkeypatch):
    def broken(*_, **__):
        def call(*_):
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler was found")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    recipe, few = lb.recipes.vae(digits.spec), replace(digits, train=digits.train.take(300))
    run = lb.fit(recipe, few, epochs=1, kernels="compiled", out=tmp_path / "run", progress=False, report=False)
    assert run.status == "done"
    assert json.loads((tmp_path / "run" / "env.json").read_text())["kernels"] == "eager"
    assert "training goes on without" in (tmp_path / "run" / "log.txt").read_text()
    eager = lb.fit(recipe, few, epochs=1, kernels="eager", progress=False).model
    for one, other in zip(run.model.parameters(), eager.parameters(), strict=True):
        assert torch.equal(one, other)


COMPILED = """
    import json, sys, torch
    from dataclasses import replace
    from pathlib import Path
    import lowerbound as lb

    torch.set_num_threads(1)
    data = lb.load_data("digits")
    data = replace(data, train=data.train.take(450))  # 3 whole batches and a smaller one
    recipe = lb.recipes.vae(data.spec, hidden=(48,), latent_dim=5)
    options = {"epochs": 2, "lr_schedule": "constant", "seed": 3, "progress": False, "report": False}
    whole, eager = (lb.fit(recipe, data, **options, kernels=k).model for k in ("compiled", "eager"))
    lb.fit(recipe, data, **{**options, "epochs": 1}, kernels="compiled", out="run")
    resumed = lb.resume("run", data, epochs=2, progress=False, report=False).model
    half = lb.fit(recipe, data, **options, kernels="compiled", precision="bf16", out="half").history[-1]["elbo"]
    models = whole, eager, resumed, recipe.build(3)[0]
    weights = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models]
    print(json.dumps({
        "apart": float((weights[0] - weights[1]).abs().max()),
        "same": torch.equal(weights[0], weights[2]),
        "moved": float((weights[0] - weights[3]).norm()),
        "kernels": [json.loads(Path(run, "env.json").read_text())["kernels"] for run in ("run", "half")],
        "elbos": [half, lb.fit(recipe, data, **options).history[-1]["elbo"]],
    }))
"""


def test_a_compiled_training_is_the_eager_one_and_goes_on_bit_by_bit(tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(COMPILED)]  # annotations that run cannot be traced
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kernels"] == ["compiled", "compiled"]
    assert found["same"]
    assert found["moved"] > 1
    assert found["apart"] < 1e-4
    assert abs(found["elbos"][0] - found["elbos"][1]) < 0.2


ALL_KINDS = """
    import json, sys, torch
    import lowerbound as lb
    from lowerbound.recipes import find

    torch.set_num_threads(1)
    x = torch.rand(450, 1, 11, 14, generator=torch.Generator().manual_seed(2)).round().numpy()
    data = lb.from_arrays(x, valid_fraction=0.1, test_fraction=0.1)
    for name in sys.argv[1:]:
        recipe = find(name)(data.spec)
        options = {"epochs": 2, "batch_size": 100, "seed": 3, "progress": False, "report": False}
        runs = [lb.fit(recipe, data, **options, kernels=k, out=f"{name}-{k}") for k in ("compiled", "eager")]
        states = [run.model.state_dict().values() for run in runs]
        print(json.dumps([
            name,
            max(float((a.double() - b.double()).abs().max()) for a, b in zip(*states, strict=True)),
            json.load(open(f"{name}-compiled/env.json"))["kernels"],
        ]))
"""


@pytest.mark.slow
def test_all_kinds_of_models_train_compiled_as_they_do_eagerly(tmp_path):
    """Convolutions to odd sizes, whose gradients are laid out anew, and modules that learn from a pass."""
    names = ["conv_vae", "vdvae", "vq_vae", "lfq_vae", "sigma_vae", "geco_vae"]
    words = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(ALL_KINDS), *names]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(name, kernels) for name, _, kernels in found] == [(name, "compiled") for name in names]
    assert {name: apart for name, apart, _ in found if apart > 1e-3} == {}


def test_an_older_run_goes_on_as_it_began(digits, tmp_path):
    """Its env.json says nothing of kernels."""
    few = replace(digits, train=digits.train.take(200))
    lb.fit(lb.recipes.vae(digits.spec), few, epochs=1, out=tmp_path / "run", progress=False, report=False)
    env = tmp_path / "run" / "env.json"
    env.write_text(json.dumps({k: v for k, v in json.loads(env.read_text()).items() if k != "kernels"}))
    assert lb.resume(tmp_path / "run", few, epochs=2, progress=False, report=False).status == "done"


def changed(run, **values):
    env = run / "env.json"
    env.write_text(json.dumps({**json.loads(env.read_text()), **values}))


class Heard:
    """A listener that notes how many threads there were."""

    def __init__(self):
        self.threads = set()

    def event(self, *_, **__):
        self.threads.add(torch.get_num_threads())

    def say(self, *_):
        self.threads.add(torch.get_num_threads())

    def tick(self, *_):
        self.threads.add(torch.get_num_threads())


def test_a_run_goes_on_with_its_own_threads(digits, tmp_path):
    few, before, heard = replace(digits, train=digits.train.take(200)), torch.get_num_threads(), Heard()
    lb.fit(lb.recipes.vae(digits.spec), few, epochs=1, out=tmp_path / "run", progress=False, report=False)
    changed(tmp_path / "run", threads=before + 2)
    lb.resume(tmp_path / "run", few, epochs=2, progress=False, report=False, listeners=(heard,))
    assert heard.threads == {before + 2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("values", [{"precision": "auto"}, {"kernels": "fast"}, {"threads": 0}, {"threads": "two"}])
def test_an_environment_that_makes_no_sense_is_named(values, digits, tmp_path):
    few = replace(digits, train=digits.train.take(200))
    lb.fit(lb.recipes.vae(digits.spec), few, epochs=1, out=tmp_path / "run", progress=False, report=False)
    changed(tmp_path / "run", **values)
    with pytest.raises(CorruptArtifact, match=r"env\.json"):
        lb.resume(tmp_path / "run", few, epochs=2, progress=False, report=False)
    changed(tmp_path / "run", precision="float32", kernels="eager", threads=1)
    assert lb.resume(tmp_path / "run", few, epochs=2, progress=False, report=False).status == "done"  # its lock is free


def test_counting_operations_draws_nothing(digits):
    recipe = lb.recipes.vae(digits.spec)
    with seeded(1):
        Loop(recipe.replace(training=replace(recipe.training, epochs=1000)), digits, 0, CPU)
        one = torch.rand(3)
    with seeded(1):
        Loop(recipe, digits, 0, CPU)
        assert torch.equal(torch.rand(3), one)
