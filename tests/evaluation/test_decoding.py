"""Scoring a few rows at a time, compiled or not, changes rounding and nothing else."""

import math
import shutil
import subprocess
import sys

import pytest
import torch

from lowerbound import from_arrays, load_data, recipes
from lowerbound.core.model import inference
from lowerbound.core.walk import from_prior
from lowerbound.evaluation import decoding, score
from lowerbound.families.bernoulli import LogitBernoulli


def of_digits(name="vae", **options):
    data = load_data("digits")
    model = getattr(recipes, name)(data.spec, hidden=(13,), **options).build(1)[0]
    return model, data.test.matching(model.spec).take(57)


def of_a_table():
    x = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.2] = math.nan
    data = from_arrays(x.numpy(), missing="keep", test_fraction=0.4)
    model = recipes.gaussian_vae(data.spec, latent_dim=3, hidden=(7,)).build(2)[0]
    return model, data.test.matching(model.spec)


CASES = {
    "digits": of_digits,
    "given y": lambda: of_digits("cvae"),
    "levels": lambda: of_digits("discretized_logistic_vae"),
    "missing cells": of_a_table,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at_once", [1, 7_001, 10**9])
def test_however_many_values_are_decoded_at_once(case, at_once, monkeypatch):
    model, rows = CASES[case]()
    monkeypatch.setattr(decoding, "_AT_ONCE", at_once)
    batch = next(rows.blocks(len(rows)))
    with inference(model):
        torch.manual_seed(3)
        trace = model(batch, 11)
        torch.manual_seed(3)
        state, _ = model.visit(batch, 11)
        found = decoding.Decoding(model, 11, 19, 0).log_px(state, batch, 11)
    torch.testing.assert_close(found, trace.log_px, rtol=2e-6, atol=2e-6)


COMPILED = """
import torch
import lowerbound as lb
from lowerbound.evaluation import decoding, score
decoding._AT_ONCE = 25_000 // torch.get_num_threads()
data = lb.load_data("digits")
model = lb.recipes.vae(data.spec, hidden=(13,)).build(1)[0]
rows = data.test.matching(model.spec)
eager, compiled = (score(model, rows, num_samples=23, kernels=kernels).log_px for kernels in ("eager", "compiled"))
print(float((compiled / eager - 1).abs().max()), float((compiled - eager).abs().max()))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_kernels_give_the_same():
    """In a process of its own: the type checks of the tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    relative, apart = map(float, done.stdout.split())
    assert relative < 1e-6
    assert apart > 0, "nothing was compiled: rounding differs"


def test_without_a_compiler_scoring_goes_on(monkeypatch):
    model, rows = of_digits()
    monkeypatch.setattr(decoding, "_AT_ONCE", 9_000)
    eager = score(model, rows, num_samples=5, kernels="eager").log_px
    asked = []

    def broken(*_, **__):
        def fails(*_):
            asked.append(1)
            raise RuntimeError("no C++ compiler")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    assert torch.equal(score(model, rows, num_samples=5, kernels="compiled").log_px, eager)
    assert len(asked) == 1, "it is tried once"


def test_kernels_are_compiled_where_the_work_is_worth_it(monkeypatch):
    model, rows = of_digits()
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(1) or function)
    score(model, rows, num_samples=5)
    assert not compiled
    monkeypatch.setattr(decoding, "_WORTH_COMPILING", 57 * 5 * 64)
    score(model, rows, num_samples=5)
    assert len(compiled) == 1


def test_a_source_that_reads_no_x_is_scored_on_each_row():
    model, rows = of_digits()
    found = score(model, rows, num_samples=4000, source=from_prior).log_px
    near = score(model, rows, num_samples=400).log_px
    assert float((found - near).abs().mean()) < 0.3


@pytest.mark.parametrize("size", [1, 63, 64, 65, 130])
def test_many_logits_share_a_logarithm(size):
    draws = torch.Generator().manual_seed(size)
    logits = torch.randn(9, 4, size, generator=draws) * torch.tensor([0.1, 3.0, 40.0, 1e4])[None, :, None]
    x = (torch.rand(4, size, generator=draws) < 0.5).float()
    with torch.no_grad():
        found = LogitBernoulli(logits, 1).log_prob(x)
    exact = LogitBernoulli(logits.double(), 1).elements().log_prob(x.double()).sum(-1)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=2e-5)
