"""Comparisons: numbers about different things are refused, and paired differences are those of each example."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from lowerbound import from_arrays, load_data, recipes
from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.evaluation import score
from lowerbound.evaluation.compare import (
    check_same,
    difference,
    differences,
    mixed,
    over_seeds,
    scored,
    subject_of,
)
from lowerbound.evaluation.number import Number


def digits():
    return load_data("digits")


def model(name="vae", seed=0, data=None, **options):
    """Return an untrained model and the test rows as it wants them."""
    data = data or digits()
    made = getattr(recipes, name)(data.spec, **{"hidden": (7,), **options}).build(seed)[0]
    return made, data.test.matching(made.spec)


def test_each_model_is_compared_with_the_first_that_has_a_density():
    pairs = {"code": model("ae"), "a": model(seed=1), "b": model(seed=2, latent_dim=3), "c": model(seed=5)}
    models = {name: made for name, (made, _) in pairs.items()}
    scores = scored(models, [rows for _, rows in pairs.values()], num_samples=11, seed=3)
    found = differences(scores, pairs["a"][1], num_samples=11)
    logs = {name: score(*pairs[name], num_samples=11, seed=3).log_px.numpy() for name in "abc"}
    assert [(d.run, d.first) for d in found] == [("b", "a"), ("c", "a")]
    for d in found:
        each = logs[d.run] - logs["a"]
        assert d.number.value == pytest.approx(each.mean())
        assert d.number.se == pytest.approx(each.std(ddof=1) / np.sqrt(len(each)))
        assert (d.high - d.low) / d.number.se == pytest.approx(2 * student.ppf(0.975, 178))
        assert (d.high + d.low) / 2 == pytest.approx(d.number.value)


def test_the_difference_follows_the_weights_of_the_rows():
    draws = np.random.default_rng(0)
    weight = draws.integers(1, 9, 31).astype(np.float32)
    data = from_arrays(draws.normal(size=(31, 3)).astype(np.float32), weight=weight, test_fraction=0.4)
    (one, rows), (two, _) = (model(seed=s, data=data, latent_dim=2) for s in (1, 2))
    scores = scored({"one": one, "two": two}, [rows, rows], num_samples=5, seed=0)
    [found] = differences(scores, rows, num_samples=5)
    each = (score(two, rows, num_samples=5).log_px - score(one, rows, num_samples=5).log_px).numpy()
    assert rows.weight is not None
    assert found.number.value == pytest.approx(np.average(each, weights=rows.weight.numpy()))


def test_one_example_and_one_sample_have_no_spread():
    (one, rows), (two, _) = model(seed=1), model(seed=2)
    rows = rows.take(1)
    scores = [score(m, rows, num_samples=1) for m in (one, two)]
    found = difference("two", scores[1], "one", scores[0], rows, num_samples=1)
    assert (found.number.se, found.number.mc_se, found.low, found.high) == (None, None, None, None)
    assert found.number.value == pytest.approx(float(scores[1].log_px[0] - scores[0].log_px[0]))


def test_the_interval_of_few_examples_is_as_wide_as_it_must_be():
    """Of 400 intervals from 4 examples, 350 cover the truth (fewer: 2e-9); those of 1.96 standard errors do not."""
    rows, draws = digits().test.take(4), np.random.default_rng(2)
    scores = score(*model(), num_samples=1)
    covered = normal = 0
    for _ in range(400):
        one, two = (replace(scores, log_px=torch.tensor(draws.normal(mean, 1, 4)), variance=scores.variance[:4])
                    for mean in (3, 1))  # fmt: skip
        found = difference("one", one, "two", two, rows, num_samples=1)
        covered += found.low <= 2 <= found.high
        normal += abs(found.number.value - 2) <= 1.96 * found.number.se
        both = over_seeds(
            "one", {0: one.log_px, 1: one.log_px}, rows, first="two", others={0: two.log_px, 1: two.log_px}
        )
        assert (both.low, both.high) == pytest.approx((found.low, found.high))  # these seeds do nothing
    assert covered >= 350 > normal


def test_one_example_has_no_interval_over_seeds():
    found = over_seeds("one", {0: torch.tensor([1.0]), 1: torch.tensor([2.0])}, digits().test.take(1))
    assert found.se_seeds == pytest.approx(0.5)
    assert (found.se_examples, found.low, found.high) == (None, None, None)


def test_a_value_that_is_not_finite_gives_a_reason():
    one, rows = model()
    scores = score(one, rows, num_samples=2)
    broken = replace(scores, log_px=torch.where(torch.arange(len(rows)) == 4, -torch.inf, scores.log_px))
    found = difference("b", broken, "a", scores, rows, num_samples=2)
    assert (found.number.value, found.low) == (None, None)
    assert "not finite" in str(found.number.reason)


def test_other_rows_are_refused():
    (one, rows), (two, _) = model(seed=1), model(seed=2)
    other = rows.rows(torch.arange(len(rows)).flip(0))
    with pytest.raises(Incompatible, match="different values"):
        scored({"one": one, "two": two}, [rows, other], num_samples=2, seed=0)
    scores = score(one, rows, num_samples=2)
    with pytest.raises(UsageError, match="the same rows"):
        difference("two", score(two, rows.take(9), num_samples=2), "one", scores, rows, num_samples=2)


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("cvae", lambda: digits(), {"target"}),
        ("gaussian_vae", lambda: digits(), {"values", "binarisation"}),
        ("vae", lambda: load_data("digits", binarize="threshold"), {"binarisation"}),
        ("vae", lambda: load_data("ring"), {"data", "n", "values", "binarisation"}),
    ],
)
def test_what_two_models_do_not_share_is_named(name, data, parts):
    subjects = {"first": subject_of(*model()), "second": subject_of(*model(name, data=data()))}
    with pytest.raises(Incompatible) as refused:
        check_same(subjects)
    lines = [line.split() for line in str(refused.value).splitlines()]
    assert {line[0] for line in lines if "first:" in line} == parts
    assert check_same({"a": subjects["first"], "b": subjects["first"]}) == subjects["first"]


def table_of(draws, seeds, examples, mean):
    """Return values of examples under seeds, `[S, N]`: both, and what they do together, have effects of their own."""
    own, shared = draws.normal(0, 0.5, (seeds, 1)), draws.normal(0, 2, (1, examples))
    return torch.tensor(mean + own + shared + draws.normal(0, 0.7, (seeds, examples)))


@pytest.mark.parametrize("seeds", [((0, 1, 2), None), ((0, 1, 2), (2, 1, 0)), ((0, 1, 2, 3), (7, 8, 9))])
def test_the_interval_over_seeds_and_examples_covers_the_truth(seeds):
    """Of 400 intervals of 95 %, 350 cover the truth: fewer would have a probability of 2e-9."""
    rows = digits().test.take(41)
    covered, by_examples = 0, 0
    draws = np.random.default_rng(5)
    for _ in range(400):
        tables = [table_of(draws, len(s), 41, mean) for s, mean in zip(seeds, (3.0, 1.0), strict=True) if s]
        runs = [dict(zip(s, t, strict=True)) for s, t in zip([s for s in seeds if s], tables, strict=True)]
        truth = 3.0 if len(runs) == 1 else 2.0
        found = over_seeds("a", runs[0], rows, first="b", others=runs[1] if len(runs) > 1 else None)
        covered += found.low <= truth <= found.high
        by_examples += abs(found.value - truth) <= 1.96 * found.se_examples
    assert covered >= 350
    assert by_examples < covered, "an interval that leaves the seeds out covers less"


def test_the_mean_over_seeds_is_that_of_the_runs():
    rows = digits().test.take(11)
    draws = np.random.default_rng(1)
    one = {seed: torch.tensor(draws.normal(size=11)) for seed in (4, 2, 9)}
    two = {seed: torch.tensor(draws.normal(size=11)) for seed in (2, 4, 9)}
    found = over_seeds("two", two, rows, first="one", others=one)
    each = np.array([float((two[s] - one[s]).mean()) for s in (2, 4, 9)])
    assert found.paired
    assert found.value == pytest.approx(each.mean())
    assert found.se_seeds == pytest.approx(each.std(ddof=1) / np.sqrt(3))
    alone = over_seeds("one", {3: one[4]}, rows)
    assert (alone.low, alone.high, alone.se_seeds) == (None, None, None)
    assert alone.value == pytest.approx(float(one[4].mean()))
    with pytest.raises(UsageError, match="same rows"):
        over_seeds("one", {3: one[4][:5]}, rows)


def test_mixed_estimators_are_told():
    bound = Number(1.0, kind="bound", side="upper", num_samples=100, target="log p(x)")
    assert mixed({"a": bound, "b": replace(bound, value=2.0, se=0.1), "c": Number(None)}) is None
    for other in (replace(bound, num_samples=50), replace(bound, target="log p(x|y)"), Number(1.0, kind="exact")):
        told = mixed({"a": bound, "b": other})
        assert told is not None and "a: bound upper K = 100" in told
