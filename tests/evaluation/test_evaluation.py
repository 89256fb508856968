"""The evaluation: its schema, what each number is about, why one is missing, and what evaluating must not change."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lowerbound import evaluate, from_arrays, from_sequences, load_data, recipes
from lowerbound.core.errors import DataError, Incompatible, LowerboundError, ShapeError, UsageError
from lowerbound.core.model import VAE
from lowerbound.evaluation import active_units, mean_variance, score
from lowerbound.evaluation.number import mean_number

NUMBERS = ("elbo", "distortion", "rate", "nll", "bits_per_dim", "nll_exact")
PARTS = {*NUMBERS, "split", "binarisation", "seed", "units", "weighted", "weights", "warnings"}
NLL = {"value", "se", "mc_se", "bias", "kind", "side", "num_samples", "n", "target"}


def digits():
    return load_data("digits")


def model(name="vae", data=None, **options):
    """Return an untrained model of the digits."""
    spec = (data or digits()).spec
    return getattr(recipes, name)(spec, **{"latent_dim": 3, "hidden": (7,), **options}).build(1)[0]


def test_the_schema_is_exactly_this():
    found = json.loads(json.dumps(evaluate(model(), digits().test, num_samples=5, seed=4).to_json()))
    assert set(found) == PARTS
    of = {"split", "binarisation", "seed"}
    assert set(found["elbo"]) == {"value", "se", "kind", "side", "n", "num_samples", "mc_se", "target", *of}
    assert (found["elbo"]["side"], found["nll"]["side"], found["bits_per_dim"]["side"]) == ("lower", "upper", "upper")
    assert set(found["distortion"]) == set(found["rate"]) == {"value", "se", "kind", "n", "num_samples", "mc_se", *of}
    assert set(found["nll"]) == NLL | of
    assert set(found["bits_per_dim"]) == {"value", "se", "kind", "side", "n", "target", *of}
    assert set(found["nll_exact"]) == {"value", "reason"}
    assert set(found["weights"]) == {"ess", "least_ess", "k_hat", "k_hat_limit", "unreliable"}
    assert found["weights"]["k_hat"] is None  # five weights have no tail
    assert (found["split"], found["binarisation"], found["seed"]) == ("test", "dynamic", 4)
    assert {found[name]["seed"] for name in ("elbo", "distortion", "rate", "nll", "bits_per_dim")} == {4}
    kinds = {name: found[name]["kind"] for name in ("elbo", "distortion", "rate", "nll", "bits_per_dim")}
    assert kinds == {
        "elbo": "bound",
        "distortion": "estimate",
        "rate": "estimate",
        "nll": "bound",
        "bits_per_dim": "bound",
    }
    assert found["nll"]["num_samples"] == 5
    assert {found[name]["n"] for name in kinds} == {len(digits().test)}


def test_the_numbers_fit_each_other():
    found = evaluate(model(), digits().test, num_samples=50)
    assert found.elbo.value == pytest.approx(-(found.distortion.value + found.rate.value))
    assert found.bits_per_dim.value == pytest.approx(found.nll.value / (64 * math.log(2)))
    assert found.bits_per_dim.se == pytest.approx(found.nll.se / (64 * math.log(2)))
    # a bound of 50 samples lies above that of one, and pixels of 0 and 1 have probabilities
    assert found.elbo.value < -found.nll.value < 0
    assert 0 < found.nll.mc_se < found.nll.se


@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("vae", {}, "log p(x)"),
        ("gaussian_vae", {}, "log p(x)"),
        ("cvae", {}, "log p(x|y)"),
        ("mnist_vae_2017", {"hidden": 7}, "E[log p(x)] over x ~ Bernoulli(grey)"),
    ],
)
def test_each_number_names_its_target(name, options, target):
    found = evaluate(model(name, **options), digits().test, num_samples=3)
    assert found.nll.target == found.elbo.target == target


def test_an_autoencoder_reports_its_distortion_and_says_why_nothing_else():
    found = evaluate(model("ae"), digits().test).to_json()
    assert set(found) == PARTS
    assert found["distortion"]["kind"] == "exact"
    assert found["distortion"]["value"] > 0
    for name in ("elbo", "rate", "nll", "bits_per_dim", "nll_exact"):
        assert set(found[name]) == {"value", "reason"}
        assert found[name]["value"] is None
        assert "Delta" in found[name]["reason"]


def test_bits_per_dim_need_discrete_values():
    found = evaluate(model("gaussian_vae"), digits().test, num_samples=3).to_json()
    assert set(found["bits_per_dim"]) == {"value", "reason"}
    assert "discrete" in found["bits_per_dim"]["reason"]
    assert found["nll"]["value"] is not None


def test_the_text_shows_every_number_and_every_reason():
    lines = str(evaluate(model("gaussian_vae"), digits().test, num_samples=3)).splitlines()
    assert [line.split()[0] for line in lines] == ["elbo", "distortion", "rate", "nll", "bits_per_dim", "weights"]
    assert "lower bound" in lines[0]
    assert "upper bound" in lines[3]
    assert "K = 3" in lines[3]
    assert "log p(x)" in lines[3]
    assert "discrete" in lines[4]


def test_the_standard_error_falls_with_the_root_of_n():
    # The rate has a closed form, so 9 copies of the rows have 9 copies of the values: only n differs.
    rows = digits().test.matching(model().spec).values()
    once, often = (evaluate(model(), x, num_samples=1).rate for x in (rows, rows.repeat(9, 1, 1, 1)))
    n = len(rows)
    assert often.value == pytest.approx(once.value, rel=1e-6)
    assert often.n == 9 * n
    assert often.se == pytest.approx(once.se / 3 * math.sqrt(9 * (n - 1) / (9 * n - 1)), rel=1e-6)


def test_the_samplers_error_falls_with_the_root_of_K():
    few, many = (evaluate(model(), digits().test, num_samples=k).nll for k in (100, 1600))
    assert many.mc_se == pytest.approx(few.mc_se / 4, rel=0.25)


def test_one_sample_has_no_error_of_the_sampler():
    found = evaluate(model(), digits().test, num_samples=1)
    assert found.nll.to_json()["mc_se"] is None
    assert "sampler" not in str(found)


def test_one_row_has_a_number_but_no_standard_error():
    data = digits()
    found = evaluate(model(), data.test.take(1), num_samples=3)
    assert found.elbo.n == 1
    assert "se" not in found.elbo.to_json()
    x = data.test.take(1).matching(model().spec).values()
    assert evaluate(model(), x, num_samples=3).elbo.n == 1


@pytest.mark.parametrize("name", ["vae", "ae"])
@pytest.mark.parametrize("num_samples", [0, -3])
def test_no_samples_are_no_evaluation(name, num_samples):
    with pytest.raises(UsageError, match=str(num_samples)):
        evaluate(model(name), digits().test, num_samples=num_samples)


@pytest.mark.parametrize("shape", [(5, 1, 8, 7), (5, 64), (5, 3, 8, 8)])
@pytest.mark.parametrize("name", ["vae", "ae"])
def test_rows_of_another_shape_are_refused(name, shape):
    with pytest.raises(ShapeError) as caught:
        evaluate(model(name), torch.rand(shape).round())
    assert str(shape[1:]) in str(caught.value)
    assert "(1, 8, 8)" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "x"),
    [
        ("vae", {}, 255 * torch.rand(9, 1, 8, 8)),
        ("vae", {}, torch.rand(9, 1, 8, 8) - 0.5),
        ("mnist_vae_2017", {"hidden": 7}, torch.randn(9, 1, 8, 8)),
    ],
)
def test_values_outside_the_support_are_refused(name, options, x):
    with pytest.raises((Incompatible, DataError)) as caught:
        evaluate(model(name, **options), x)
    assert "0 to 1" in str(caught.value)


def test_grey_rows_kept_grey_are_refused_by_a_model_of_binary_ones():
    kept = load_data("digits", binarize="none")
    with pytest.raises(Incompatible, match="Bernoulli"):
        evaluate(model(), kept.test)


def test_a_grey_tensor_given_to_a_model_of_binary_pixels_is_binarised_once():
    grey = torch.rand(9, 1, 8, 8)
    one, other = (evaluate(model(), grey, num_samples=1, seed=seed) for seed in (0, 1))
    assert one.binarisation == "dynamic"
    assert one.rate == other.rate  # a closed form of the binarised pixels alone: they did not change with the seed
    assert one.distortion != other.distortion
    assert evaluate(model(), grey, num_samples=1) == one


def test_stored_whole_numbers_are_read_on_the_models_scale_or_refused():
    # The digits are stored as 0..16. Read as 0..255, they would be black, and the numbers wrong without a word.
    stored = digits().test.x
    assert (stored.dtype, int(stored.max())) == (torch.uint8, 16)
    given = model("gaussian_vae")
    try:
        found = evaluate(given, stored, num_samples=1)
    except LowerboundError:
        return
    assert found.distortion.value == evaluate(given, digits().test, num_samples=1).distortion.value


def test_empty_and_not_finite_rows_are_refused():
    data = digits()
    with pytest.raises(DataError, match="0 test examples"):
        evaluate(model(), replace(data.test, x=data.test.x[:0], y=None))
    with pytest.raises(DataError, match="not finite"):
        evaluate(model(), torch.full((9, 1, 8, 8), torch.nan))


def test_a_conditional_model_wants_labels():
    unlabelled = from_arrays(np.random.default_rng(0).integers(0, 2, (30, 8, 8)))
    with pytest.raises(LowerboundError) as caught:
        evaluate(model("cvae"), unlabelled.test)
    assert "y" in str(caught.value)


def test_a_model_that_does_not_know_its_data_is_refused():
    known = model()
    with pytest.raises(UsageError, match="does not know its data"):
        evaluate(VAE(known.encoder, list(known.groups), known.decoder), digits().test)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["vae", "ae", "mnist_vae_2017"])
def test_evaluating_leaves_modes_gradients_and_generators_as_they_were(name, split):
    options = {"hidden": 7} if name == "mnist_vae_2017" else {}
    given, data = model(name, **options).train(), digits().split(split).take(150)
    given.decoder.eval()
    before = torch.get_rng_state()
    first = evaluate(given, data, num_samples=2)
    units = mean_variance(given, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert given.training
    assert given.encoder.training
    assert not given.decoder.training
    assert all(p.grad is None for p in given.parameters())
    torch.manual_seed(77)
    assert evaluate(given, data, num_samples=2) == first  # the caller's generator is not read either
    assert torch.equal(mean_variance(given, data), units)
    given.eval()
    assert evaluate(given, data, num_samples=2) == first


def test_active_units_are_those_whose_mean_varies():
    given, data = model(), digits().test
    with torch.no_grad():
        out = given.encoder.networks[0].out
        out.weight.zero_()
        out.weight[1] = 1.0  # the mean of the second dimension alone follows x
    variance = mean_variance(given, data)
    assert variance.shape == (3,)
    assert variance.dtype == torch.float64
    x = data.matching(given.spec).values()
    torch.testing.assert_close(variance[1], given.encode(x)[:, 1].double().var(), rtol=1e-6, atol=0)
    assert variance[[0, 2]].tolist() == [0, 0]
    assert active_units(given, data) == 1
    assert active_units(given, data, threshold=float(variance[1]) * 2) == 0
    with pytest.raises(UsageError, match="at least 2 rows"):
        mean_variance(given, data.take(1))


def test_scores_are_not_for_rows_in_another_form_than_the_models():
    # Grey rows that were not matched give a cross-entropy under the name of a likelihood.
    with pytest.raises(LowerboundError):
        score(model(), digits().test)


def test_bits_for_each_symbol_vary_as_a_ratio_of_means_does():
    """Long rows have more nats and more symbols: the error is that of the ratio over samples of rows drawn anew."""
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abc"), n)) for n in draw.integers(1, 20, 300)]
    data = from_sequences(texts, test_fraction=0.0, valid_fraction=0.0)
    model = recipes.sequence_vae(data.spec, latent_dim=2, width=8).build(1)[0]
    found = evaluate(model, data.train, num_samples=5)
    nats = -score(model, data.train.matching(model.spec), num_samples=5).log_px.numpy()
    symbols = data.train.mask.sum(1).numpy()
    assert found.bits_per_dim.value == pytest.approx(nats.sum() / symbols.sum() / math.log(2))
    again = draw.integers(0, len(nats), (2000, len(nats)))
    ratios = nats[again].sum(1) / symbols[again].sum(1) / math.log(2)
    assert found.bits_per_dim.se == pytest.approx(ratios.std(), rel=0.1)  # 2000 samples tell it within 2 %
    assert found.nll.se / symbols.mean() / math.log(2) > 3 * found.bits_per_dim.se


def test_rows_without_any_weight_have_no_mean():
    found = mean_number(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64) / 0)
    assert found.value is None
    assert found.reason == "the weights of these 2 examples are all 0"
