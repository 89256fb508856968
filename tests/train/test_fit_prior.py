"""`fit_prior`: what it fits, what it leaves alone, and how it chooses."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from training_parts import weights

import lowerbound as lb
from lowerbound import families, priors
from lowerbound.core.errors import Incompatible, TrainingFailed, UsageError
from lowerbound.core.noise import seeded
from lowerbound.core.phases import FitPrior
from lowerbound.core.types import Batch
from lowerbound.data.dataset import Data
from lowerbound.evaluation.integration import log_joint
from lowerbound.train.fit_prior import fit_prior, prior_score

L = 3
CANDIDATES = {
    "LearnedNormal": lambda: priors.LearnedNormal((L,)),
    "MixtureOfNormals": lambda: priors.MixtureOfNormals((L,), 5),
    "VampPrior": lambda: priors.VampPrior((L,), (1, 8, 8), 7, "unit"),
    "ExemplarPrior": lambda: priors.ExemplarPrior((L,), (1, 8, 8), 30),
    "TwoStage": lambda: priors.TwoStage((L,), hidden=(16,), num_samples=8),
    "FlowMatching": lambda: priors.FlowMatching((L,), hidden=(16,), steps=5),
    "FlowPrior": lambda: priors.FlowPrior((L,)),
    "Diffusion": lambda: priors.Diffusion((L,), hidden=(32,), steps=10),
}
POINTS = ("LearnedNormal", "MixtureOfNormals", "TwoStage", "FlowMatching", "FlowPrior")


@cache
def digits():
    return lb.load_data("digits")


@cache
def trained(name="vae"):
    """Return a short training's model; the tests share it and must not change it."""
    made = getattr(lb.recipes, name)(digits().spec, latent_dim=L, hidden=(24,))
    return lb.fit(made, digits(), epochs=12, lr=1e-2, seed=1, progress=False).model


def conditional_prior(size):
    family = families.Normal((size,))
    return priors.ConditionalPrior(lb.Conditional(lb.networks.MLP((10,), family.params, hidden=()), family))


def rates(model, split="valid"):
    rows = digits().split(split).matching(model.spec)
    with torch.no_grad(), seeded(5):
        trace = model(rows.batch(slice(0, len(rows))), 20)
        return float(trace.kl.mean()), float(-trace.log_px.mean())


def constant_posterior(mean, variance):
    """Return a model of points in the plane whose q(z|x) is N(mean, variance) whatever x is, and data for it."""
    data = lb.from_arrays(torch.randn(2000, 2).numpy(), valid_fraction=0.2)
    model, _ = lb.recipes.gaussian_vae(data.spec, latent_dim=2, hidden=(4,)).build()
    with torch.no_grad():
        out = model.encoder.networks[0].out
        out.weight.zero_()
        out.bias.copy_(model.groups[0].posterior_family.bias_for(mean, variance).flatten())
    return model, data


def test_a_normal_aggregate_posterior_lowers_the_rate_by_the_closed_form():
    """q = N(3, 2): KL to N(0, 1) is (2 + 9 - 1 - log 2) / 2 a dimension, and to the fitted prior 0."""
    model, data = constant_posterior(torch.full((2,), 3.0), torch.full((2,), 2.0))
    fitted = fit_prior(model, priors.LearnedNormal((2,)), data, epochs=5, seed=3)
    batch = data.test.matching(model.spec).batch(slice(0, 50))
    with torch.no_grad():
        before, after = (float(m(batch).kl.mean()) for m in (model, fitted))
    assert before == pytest.approx(10 - math.log(2), rel=1e-5)
    assert before - after == pytest.approx(10 - math.log(2), abs=0.02)
    score = prior_score(fitted, data.valid.matching(model.spec))
    entropy = -1 - math.log(2 * math.pi * 2)
    assert score == pytest.approx(entropy, abs=0.25)  # 320 codes, standard deviation 1: 4.5 standard errors


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_prior_lowers_the_rate_leaves_the_rest_alone_and_is_saved(name, tmp_path):
    model, told = trained(), []
    before = weights(model)
    fitted = fit_prior(model, CANDIDATES[name](), digits(), epochs=6, lr=5e-3, seed=2, say=told.append)
    assert weights(model) == before
    assert type(fitted.groups[0].prior_part).__name__ == name
    kept = weights(fitted)
    assert {n: kept[n] for n in before if not n.startswith("groups.0.prior")} == before
    (old, distortion), (new, same) = rates(model), rates(fitted)
    if name == "Diffusion":  # its bound of log p(z) is loose in ten steps: it is held against its own start
        old = rates(fit_prior(model, CANDIDATES[name](), digits(), epochs=1, lr=1e-9, seed=2))[0] / 2
    if name not in ("ExemplarPrior", "VampPrior"):  # N(0, I) is none of theirs: few components can be worse
        assert new < old
    assert distortion == pytest.approx(same, rel=1e-3)
    assert len(told) == 1
    assert told[0].startswith(f"{name}: mean log p(z) of validation codes ")
    again = lb.load(lb.save(fitted, tmp_path / "model"))
    assert weights(again) == kept
    assert torch.equal(again.sample(4, seed=1), fitted.sample(4, seed=1))
    assert not fitted.training
    assert all(p.requires_grad and p.grad is None for p in fitted.parameters())


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(name):
    torch.manual_seed(1)
    one = fit_prior(trained(), CANDIDATES[name](), digits(), epochs=1, seed=2)
    state = torch.get_rng_state()
    torch.manual_seed(9)
    again = fit_prior(trained(), CANDIDATES[name](), digits(), epochs=1, seed=2)
    other = fit_prior(trained(), CANDIDATES[name](), digits(), epochs=1, seed=3)
    assert weights(one) == weights(again) != weights(other)
    torch.manual_seed(1)
    CANDIDATES[name]()
    assert torch.equal(torch.get_rng_state(), state)  # the fit itself left the generator alone


@pytest.mark.parametrize("name", POINTS)
def test_a_plain_autoencoder_gets_a_sampler_and_no_density(name):
    model = trained("ae")
    fitted = fit_prior(model, CANDIDATES[name](), digits(), epochs=2)
    assert not fitted.has_density
    codes = model.encode(digits().train.matching(model.spec).batch(slice(0, 500)).x)
    with torch.no_grad(), seeded(3):
        drawn = fitted.groups[0].prior_part(None, None).sample((500,))
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=float(codes.std()) / 2, rtol=0)
    assert fitted.sample(2, seed=0).shape == (2, 1, 8, 8)


def test_the_best_of_several_priors_by_held_out_codes_is_taken():
    model, told = trained("ae"), []
    options = [priors.StandardNormal((L,)), priors.MixtureOfNormals((L,), 8), priors.LearnedNormal((L,))]
    fitted = fit_prior(model, options, digits(), epochs=3, say=told.append)
    scores = {line.split(":")[0]: float(line.split()[-2]) for line in told[:-1]}
    assert told[-1] == f"kept: {type(fitted.groups[0].prior_part).__name__}"
    assert list(scores) == ["StandardNormal", "MixtureOfNormals", "LearnedNormal"]
    assert type(fitted.groups[0].prior_part).__name__ == max(scores, key=scores.__getitem__) != "StandardNormal"
    judged = prior_score(fitted, digits().valid.matching(model.spec))
    assert judged == pytest.approx(max(scores.values()), abs=1e-3)


def test_the_weights_of_the_best_epoch_are_kept_not_the_last():
    """With a learning rate that ruins the prior, its start (k-means) is what is kept."""
    model, told = trained("ae"), []
    fit_prior(model, CANDIDATES["MixtureOfNormals"](), digits(), epochs=3, lr=1e-9, say=told.append)
    fit_prior(model, CANDIDATES["MixtureOfNormals"](), digits(), epochs=3, lr=30.0, say=told.append)
    first, ruined = (float(line.split()[-2]) for line in told)
    assert ruined >= first - 1e-3


def test_pseudo_inputs_learn_while_the_encoder_rests():
    model = trained()
    start = fit_prior(model, CANDIDATES["VampPrior"](), digits(), epochs=1, lr=1e-9, seed=4)
    moved = fit_prior(model, CANDIDATES["VampPrior"](), digits(), epochs=8, lr=2e-2, seed=4)
    one, other = (m.groups[0].prior_part.raw for m in (start, moved))
    assert float((one - other).detach().abs().max()) > 0.1
    assert rates(moved)[0] < rates(start)[0]


def test_rows_alone_are_judged_by_themselves_and_exemplars_then_leave_each_out():
    model, told, rows = trained(), [], digits().train.take(30)
    made = priors.ExemplarPrior((L,), (1, 8, 8), 30)
    fitted = fit_prior(model, made, rows, epochs=1, say=told.append)
    assert "of training codes" in told[0]
    own = rows.matching(model.spec)
    assert float(told[0].split()[-2]) == pytest.approx(prior_score(fitted, own, leave_out=True), abs=1e-3)
    assert prior_score(fitted, own, leave_out=True) < prior_score(fitted, own)


def test_a_conditional_model_keeps_its_condition():
    model = trained("cvae")
    fitted = fit_prior(model, conditional_prior(L), digits(), epochs=2)
    assert fitted.conditional
    assert fitted.sample(10, torch.eye(10), seed=1).shape == (10, 1, 8, 8)
    independent = fit_prior(model, priors.LearnedNormal((L,)), digits(), epochs=1)  # a prior that does not read y
    assert independent.sample(10, torch.eye(10), seed=1).shape == (10, 1, 8, 8)
    with pytest.raises(Incompatible, match="encoder that reads a condition"):
        fit_prior(model, CANDIDATES["VampPrior"](), digits(), epochs=1)


def test_masked_cells_and_row_weights_are_heeded():
    """Codes are (4, -4) max(x, 0): with the negative rows' weight 0 the prior's mean is twice that of all rows.

    Hidden cells may hold anything, NaN too.
    """
    torch.manual_seed(2)
    x = torch.randn(400, 3)
    data = lb.from_arrays(x.numpy(), valid_fraction=0.2)
    model, _ = lb.recipes.gaussian_vae(data.spec, latent_dim=2, hidden=(1,)).build()
    first, out = model.encoder.networks[0].body[0], model.encoder.networks[0].out
    with torch.no_grad():
        for parameter in (first.weight, first.bias, out.weight, out.bias):
            parameter.zero_()
        first.weight[0, 0] = 1e4  # SiLU: 0 below, x above
        out.weight[0], out.weight[1] = 4e-4, -4e-4
        out.bias[2:] = -4.0

    def weighted(rows):
        return replace(rows, weight=2.0 * (rows.x[:, 0] > 0))

    heeding = fit_prior(
        model,
        priors.LearnedNormal((2,)),
        Data(weighted(data.train), weighted(data.valid), data.test),
        epochs=60,
        lr=0.1,
    )
    plain = fit_prior(model, priors.LearnedNormal((2,)), data, epochs=60, lr=0.1)
    seen = data.train.x[data.train.x[:, 0] > 0, 0].mean() * 4
    means = [m.groups[0].prior_part(None, None).mean[0].item() for m in (heeding, plain)]
    assert means[0] == pytest.approx(float(seen), abs=0.3)
    assert means[1] == pytest.approx(float(seen) / 2, abs=0.3)
    mask = torch.ones_like(data.train.x, dtype=torch.bool)
    mask[:, 1] = False
    hidden = replace(data.train, x=torch.where(mask, data.train.x, torch.nan), mask=mask)
    fitted = fit_prior(model, priors.LearnedNormal((2,)), hidden, epochs=1)
    assert all(p.isfinite().all() for p in fitted.parameters())


@pytest.mark.parametrize("kind", ["realnvp", "spline"])
def test_a_flow_starts_at_the_scale_of_the_codes(kind):
    """Codes of N(40, 9^2), scored before a step moves anything: the normal itself is the best there is."""
    model, data = constant_posterior(torch.full((2,), 40.0), torch.full((2,), 81.0))
    fitted = fit_prior(model, priors.FlowPrior((2,), kind, hidden=(8,)), data, epochs=1, lr=1e-9)
    entropy = -1 - math.log(2 * math.pi * 81)
    score = prior_score(fitted, data.valid.matching(model.spec))
    assert score == pytest.approx(entropy, abs=0.3)  # as above, and the fresh flow's own distance from the identity
    assert [n for n in fitted.state_dict() if n.endswith("loc")] == ["groups.0.prior_part.flow.flows.1.loc"]


def test_a_prior_without_a_finite_score_is_left_out(monkeypatch):
    told, whole = [], priors.LearnedNormal.forward

    def broken(self, y, infer):
        p = whole(self, y, infer)
        p.loc = p.loc * torch.nan
        return p

    monkeypatch.setattr(priors.LearnedNormal, "forward", broken)
    options = [priors.LearnedNormal((L,)), priors.StandardNormal((L,)), priors.LearnedNormal((L,))]
    fitted = fit_prior(trained(), options, digits(), epochs=1, say=told.append)
    assert type(fitted.groups[0].prior_part).__name__ == "StandardNormal"
    left_out = "left out, as its mean log p(z) is not finite"
    assert told[0] == f"LearnedNormal 1: {left_out}"
    assert told[1:] == [told[1], f"LearnedNormal 2: {left_out}", "kept: StandardNormal"]
    with pytest.raises(TrainingFailed, match="LearnedNormal was not finite"):
        fit_prior(trained(), options[0], digits(), epochs=1)


def test_many_rows_are_judged_by_some_of_all_of_them():
    """Rows in order of their values: the first 2,000 alone would have a mean of -0.9 and not 0."""
    x = torch.linspace(-1, 1, 40_000)[:, None].expand(-1, 2).numpy()
    rows = lb.from_arrays(x, valid_fraction=0.0, test_fraction=0.0, standardize=False).train
    rows = rows.rows(rows.x[:, 0].argsort())
    model, _ = lb.recipes.gaussian_vae(rows.spec, latent_dim=1, hidden=()).build()
    first = model.encoder.networks[0].out
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0] = 1.0
        first.bias.copy_(torch.tensor([0.0, -14.0]))
    score = prior_score(model, rows.matching(model.spec), seed=1)
    assert score == pytest.approx(-0.5 * (math.log(2 * math.pi) + 1 / 3), abs=0.03)  # 9 standard errors


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: (), UsageError, "no prior"),
        (lambda: priors.LearnedNormal((L + 1,)), Incompatible, "codes of another"),
        (lambda: priors.UniformOneHot((L,)), Incompatible, "discrete"),
        (lambda: conditional_prior(L + 2), Incompatible, "codes of another"),
    ],
)
def test_what_cannot_be_the_prior_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        fit_prior(trained(), make(), digits(), epochs=1)


def test_points_cannot_be_lent_to_a_prior_made_of_posteriors():
    with pytest.raises(Incompatible, match="prior made of posteriors"):
        fit_prior(trained("ae"), CANDIDATES["VampPrior"](), digits(), epochs=1)


def test_a_fitted_model_scores_a_batch_like_any_other():
    fitted = fit_prior(trained(), CANDIDATES["FlowMatching"](), digits(), epochs=1)
    batch = digits().test.matching(fitted.spec).batch(slice(0, 6))
    trace = fitted(Batch(batch.x), 4)
    assert trace.log_w.shape == (4, 6)
    assert bool(trace.log_w.isfinite().all())


def planned(epochs=1):
    """Return a recipe with a mixture as its prior, and another one to fit afterwards."""
    made = lb.recipes.gmm_prior_vae(digits().spec, latent_dim=L, hidden=(9,), components=3)
    return made.replace(after=(FitPrior((priors.MixtureOfNormals((L,), 5),), epochs=epochs),))


def test_a_run_that_was_killed_before_its_prior_was_fitted_goes_on_to_that(tmp_path, monkeypatch):
    whole = lb.fit(planned(), digits(), epochs=2, seed=4, out=tmp_path / "whole", progress=False, report=False)

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lowerbound.train.loop.fit_prior", killed)
    with pytest.raises(KeyboardInterrupt):
        lb.fit(planned(), digits(), epochs=2, seed=4, out=tmp_path / "cut", progress=False, report=False)
    monkeypatch.undo()
    assert len(lb.load(tmp_path / "cut").groups[0].prior_part.logits) == 3
    run = lb.resume(tmp_path / "cut", digits(), progress=False, report=False)
    assert weights(run.model) == weights(whole.model) == weights(lb.load(tmp_path / "cut"))
    with pytest.raises(UsageError, match="has 2 epochs already"):
        lb.resume(tmp_path / "cut", digits(), progress=False)


def test_more_epochs_after_a_fitted_prior_train_the_recipes_own_prior_and_fit_again(tmp_path):
    lb.fit(planned(), digits(), epochs=1, seed=4, out=tmp_path / "run", progress=False, report=False)
    run = lb.resume(tmp_path / "run", digits(), epochs=2, progress=False, report=False)
    assert len(run.model.groups[0].prior_part.logits) == 5
    assert [row["epoch"] for row in run.history if row["split"] == "valid"] == [2]


def test_the_estimated_density_of_two_stages_is_no_exact_integral():
    model, data = constant_posterior(torch.zeros(2), torch.ones(2))
    batch = data.test.matching(model.spec).batch(slice(0, 3))
    fitted = fit_prior(model, priors.TwoStage((2,), hidden=(4,)), data, epochs=1)
    with pytest.raises(UsageError, match="log p\\(z\\) is an estimate"):
        log_joint(fitted, batch, torch.zeros(5, 2))
