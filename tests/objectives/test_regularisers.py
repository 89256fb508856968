"""Free bits, capacity, GECO and lagging inference: their special cases, hand computations, what they move."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from regulariser_parts import B, D, L, batch, gradients, model, outcome, trace

from lowerbound import load_data, recipes
from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.core.objective import Objective
from lowerbound.core.recipe import Training
from lowerbound.core.types import Batch
from lowerbound.objectives import (
    DIP,
    ELBO,
    GECO,
    HSIC,
    MMD,
    Capacity,
    FactorVAE,
    FreeBits,
    Lagging,
    Reconstruction,
    TotalCorrelation,
)
from lowerbound.objectives.lagging import information
from lowerbound.train.schedules import Linear
from lowerbound.train.update import Guard, make_optimizers, update

ELBOS = {
    "FreeBits": lambda: FreeBits(0.0),
    "FreeBits per group": lambda: FreeBits(0.0, "group"),
    "Capacity": lambda: Capacity(1.0, 0.0),
    "Capacity each": lambda: Capacity(1.0, (0.0,)),
    "GECO": lambda: GECO(0.0),
    "Lagging": lambda: Lagging(),
    "FactorVAE": lambda: FactorVAE((L,), 0.0),
    "DIP": lambda: DIP("i", 0.0, 0.0),
    "DIP ii": lambda: DIP("ii", 0.0, 0.0),
    "InfoVAE": lambda: MMD(weight=1.0, alpha=0.0),
    "HSIC": lambda: HSIC(0.0),
}
EVERY = {
    "FreeBits": lambda: FreeBits(0.4),
    "Capacity": lambda: Capacity(7.0, 2.0),
    "GECO": lambda: GECO(0.3),
    "Lagging": lambda: Lagging(),
    "FactorVAE": lambda: FactorVAE((L,), 3.0, (8,)),
    "DIP": lambda: DIP(),
    "InfoVAE": lambda: MMD(weight=5.0, alpha=0.5, kernel="laplace"),
    "WAE": lambda: MMD(),
    "HSIC": lambda: HSIC(9.0),
    "HSIC of dimensions": lambda: HSIC(9.0, "dimensions"),
    "TotalCorrelation": lambda: TotalCorrelation(),
}


def first(made: Objective, of, given, step=0.0):
    return next(iter(outcome(made, of, given, step).losses.values()))


def test_free_bits_warm_up_as_the_elbo_does():
    of, given = model(), batch()
    for beta in (0.3, Linear(0.0, 0.6, 10)):
        for made in (FreeBits(0.0, beta=beta), FreeBits(0.0, "group", beta=beta)):
            expected = first(ELBO(beta=beta), of, given, 5.0)
            torch.testing.assert_close(first(made, of, given, 5.0), expected, rtol=1e-12, atol=1e-12)
    full, half = (first(FreeBits(50.0, "group", beta=beta), of, given) for beta in (1.0, 0.5))
    assert (full - half).item() == pytest.approx(25.0)
    assert FreeBits(0.1, beta=Linear(0.0, 1.0, 70)).settled == 70


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ELBOS)
def test_with_neutral_settings_loss_and_gradient_are_those_of_the_elbo(name, weighted):
    of, given = model(), batch(weighted=weighted)
    expected, found = first(ELBO(), of, given), first(ELBOS[name](), of, given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients(found, of), gradients(expected, of), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_total_correlation_with_weights_one_is_the_elbo_by_its_sampled_rate():
    of, given = model(), batch()
    made = outcome(TotalCorrelation(1.0, 1.0, 1.0, num_samples=2), of, given)
    expected = -made.trace.mean(made.trace.log_w).mean()
    torch.testing.assert_close(made.losses["model"], expected, rtol=1e-12, atol=1e-12)
    assert abs((expected - first(ELBO(2), of, given)).item()) > 1e-3  # the closed-form rate is another number


def test_alpha_one_without_mmd_is_the_autoencoder():
    of, given = model(), batch()
    torch.testing.assert_close(first(MMD(weight=0.0), of, given), first(Reconstruction(), of, given))


@pytest.mark.parametrize("name", EVERY)
def test_every_objective_reports_the_elbo_and_terms_for_each_row(name):
    of, given = model(), batch(weighted=True)
    made, plain = outcome(EVERY[name](), of, given), outcome(ELBO(), of, given)
    for term in ("distortion", "rate", "elbo"):
        torch.testing.assert_close(made.terms[term], plain.terms[term])
    assert all(term.shape == (B,) for term in made.terms.values())
    assert EVERY[name]().monitor in made.terms


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_a_small_last_batch_has_finite_losses_and_gradients(name, rows):
    of = model()
    made = outcome(EVERY[name](), of, batch(rows))
    assert all(bool(loss.isfinite()) for loss in made.losses.values())
    assert all(bool(g.isfinite().all()) for g in gradients(next(iter(made.losses.values())), of))


@pytest.mark.parametrize("name", ["TotalCorrelation", "FactorVAE", "DIP", "WAE", "HSIC", "Lagging"])
def test_what_is_defined_for_one_group_refuses_two(name):
    with pytest.raises(Incompatible, match="2 latent groups"):
        outcome(EVERY[name](), model(groups=2), batch())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FreeBits(-0.1), lambda: FreeBits(per="pixel"), lambda: FreeBits(num_samples=0),
        lambda: FreeBits(beta=-1.0), lambda: FreeBits(beta=Linear(0.0, -1.0, 5)),
        lambda: Capacity(-1.0), lambda: Capacity(1.0, -2.0), lambda: Capacity(1.0, (1.0, Linear(0.0, -1.0, 5))),
        lambda: GECO(math.nan), lambda: GECO(gain=math.inf), lambda: GECO(decay=1.0),
        lambda: Lagging(every=0), lambda: Lagging(window=0),
        lambda: TotalCorrelation(beta=-1.0), lambda: TotalCorrelation(num_samples=0), lambda: FactorVAE((1,)),
        lambda: DIP("iii"), lambda: DIP(lambda_d=-1.0), lambda: MMD(alpha=1.5), lambda: MMD(weight=0.5, alpha=0.0),
        lambda: MMD(kernel="linear"), lambda: MMD(scales=()), lambda: HSIC(-1.0), lambda: HSIC(between="rows"),
        lambda: HSIC(scale=0.0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises((UsageError, TypeCheckError)):  # names out of a Literal are caught by the types already
        wrong()


# free bits


def rates_by_hand(made):
    """Return KL of each dimension, `[B, L]`, in numpy."""
    q = made.trace.latents[0].q
    mean, variance = q.mean.detach().numpy(), q.variance.detach().numpy()
    return 0.5 * (mean**2 + variance - 1 - np.log(variance))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("per", ["dimension", "group"])
def test_bits_below_the_floor_cost_the_floor_for_the_mean_of_the_batch(per, weighted):
    given = batch(weighted=weighted)
    plain = outcome(ELBO(), model(), given)
    weight = np.ones(B) if given.weight is None else given.weight.numpy()
    rates = rates_by_hand(plain) if per == "dimension" else rates_by_hand(plain).sum(1, keepdims=True)
    means = (weight[:, None] * rates).mean(0)
    floor = float(np.median(means)) + 1e-3  # between the rates of the dimensions, above that of the group
    made = outcome(FreeBits(floor, per), model(), given)
    distortion = (weight * plain.terms["distortion"].detach().numpy()).mean()
    expected = distortion + np.maximum(floor, means).sum()
    assert made.losses["model"].item() == pytest.approx(expected, rel=1e-12)
    outside = distortion + (weight[:, None] * np.maximum(floor, rates)).mean(0).sum()
    assert abs(made.losses["model"].item() - outside) > 1e-3  # the maximum of each example is another objective


def test_below_the_floor_the_rate_has_no_gradient():
    of, given = model(), batch()
    free = gradients(first(FreeBits(100.0), of, given), of)
    for one, other in zip(free, gradients(first(Reconstruction(), of, given), of), strict=True):
        torch.testing.assert_close(one, other)


def test_bits_of_several_groups_are_free_in_each():
    of, given = model(groups=2), batch()
    made = outcome(FreeBits(50.0, "group"), of, given)
    assert made.terms["charged"][0].item() == pytest.approx(100.0)
    assert outcome(FreeBits(50.0), of, given).terms["charged"][0].item() == pytest.approx(100.0 * L)


# capacity


@pytest.mark.parametrize("step", [0.0, 3.0, 500.0])
def test_capacity_follows_its_schedule_for_each_example(step):
    of, given = model(), batch()
    schedule = Linear(0.5, 4.5, 8)
    made, plain = outcome(Capacity(6.0, schedule), of, given, step), outcome(ELBO(), of, given)
    capacity = 0.5 + 4.0 * min(step / 8, 1.0)
    away = (plain.terms["rate"] - capacity).abs()
    torch.testing.assert_close(made.losses["model"], (plain.terms["distortion"] + 6 * away).mean())
    last = (plain.terms["rate"] - 4.5).abs()
    torch.testing.assert_close(made.terms["penalized"], plain.terms["distortion"] + 6 * last)


def test_the_distance_from_the_capacity_is_that_of_each_example_and_not_of_the_mean():
    of, given = model(), batch()
    terms = outcome(ELBO(), of, given).terms
    capacity = terms["rate"].median().item() + 1e-3  # between the rates
    found = first(Capacity(6.0, capacity), of, given)
    of_mean = (terms["distortion"].mean() + 6 * (terms["rate"].mean() - capacity).abs()).detach()
    assert (found - of_mean).item() > 1e-3


def test_each_group_has_its_own_capacity():
    of, given = model(groups=2), batch()
    made = outcome(Capacity(2.0, (1.0, Linear(0.0, 3.0, 10))), of, given, 5.0)
    one, two = (made.trace.mean(latent.kl) for latent in made.trace.latents)
    expected = made.terms["distortion"] + 2 * ((one - 1.0).abs() + (two - 1.5).abs())
    torch.testing.assert_close(made.losses["model"], expected.mean())
    assert Capacity(1.0, (1.0, Linear(0.0, 3.0, 10))).settled == 10
    with pytest.raises(Incompatible, match="3 capacities"):
        outcome(Capacity(1.0, (1.0, 2.0, 3.0)), of, given)


@pytest.mark.parametrize("size", [100, 1457, 54_000])
def test_by_default_capacities_have_grown_by_half_of_the_training_whatever_the_size_of_the_data(size):
    spec = replace(load_data("digits").spec, size=size)
    for made in (recipes.joint_vae(spec, hidden=(8,)), recipes.disentangled_beta_vae(spec, hidden=(8,))):
        steps = made.training.epochs * math.ceil(size / made.training.batch_size)
        assert made.objective.settled == steps // 2
    assert recipes.joint_vae(spec, hidden=(8,), grown=70).objective.settled == 70
    assert recipes.joint_vae(spec, hidden=(8,), grown=0).objective.settled == 0
    assert recipes.disentangled_beta_vae(spec, hidden=(8,), steps=70).objective.settled == 70
    assert recipes.lagging_vae(spec, hidden=(8,)).objective.window == math.ceil(size / 128)


# GECO


def test_the_multiplier_is_that_of_a_hand_computation():
    made = GECO(tolerance=0.4, speed=0.2, decay=0.75).double()
    log_multiplier, average = 0.0, 0.0
    distortions = [9.0, 1.0, -2.0, 30.0, 4.0]
    for i, distortion in enumerate(distortions):
        log_px = -torch.tensor([[distortion - 1, distortion + 1]], dtype=torch.float64)
        flat = torch.zeros(2, L, dtype=torch.float64)
        given = Batch(torch.zeros(2, D, dtype=torch.float64))
        with torch.no_grad():
            made.after_step(made.statistics(trace(flat, flat + 1, flat[None], log_px), given))
        constraint = distortion / D - 0.4
        average = constraint if i == 0 else 0.75 * average + 0.25 * constraint
        log_multiplier += 0.2 * average
    assert float(made.multiplier) == pytest.approx(math.exp(log_multiplier), rel=1e-12)


def test_without_a_tolerance_it_lies_below_the_distortion_of_the_first_step():
    of, given, later = model(), batch(weighted=True), batch(3)
    made, plain = GECO(gain=0.3), outcome(ELBO(), of, given)
    of_first = given.mean(plain.terms["distortion"]).detach()
    found = outcome(made, of, given)
    torch.testing.assert_close(found.terms["above_tolerance"], plain.terms["distortion"] - of_first + 0.3 * D)
    for one, other in zip(gradients(found.losses["model"], of), gradients(first(ELBO(), of, given), of), strict=True):
        torch.testing.assert_close(one, other)  # the multiplier is 1, and the tolerance has no gradient
    with torch.no_grad():
        made.after_step(made.statistics(found.trace, given))
        made.after_step(made.statistics(outcome(made, of, later).trace, later))
    expected = outcome(ELBO(), of, later).terms["distortion"] - of_first + 0.3 * D
    torch.testing.assert_close(outcome(made, of, later).terms["above_tolerance"], expected)
    fixed = GECO(float(of_first) / D - 0.3).double()
    for rows in (given, later):
        with torch.no_grad():
            fixed.after_step(fixed.statistics(outcome(fixed, of, rows).trace, rows))
    torch.testing.assert_close(made.multiplier, fixed.multiplier)


def test_the_tolerance_of_a_row_with_missing_cells_is_that_of_its_observed_ones():
    of, given = model(), batch(weighted=True)
    given.mask = (torch.rand(B, D, dtype=torch.float64) < 0.6).double()
    count, found = given.mask.sum(1), outcome(GECO(0.3), of, given)
    assert count.unique().numel() > 1
    torch.testing.assert_close(found.terms["above_tolerance"], found.terms["distortion"] - 0.3 * count)
    made = GECO(0.3, speed=1.0).double()
    with torch.no_grad():
        made.after_step(made.statistics(found.trace, given))
    each = given.mean(found.terms["distortion"]) / given.mean(count)
    torch.testing.assert_close(made.multiplier, (each - 0.3).exp().detach())


def test_the_multiplier_keeps_within_its_bounds():
    made = GECO(tolerance=0.0, speed=100.0)
    for sign, limit in ((1.0, 1e4), (-1.0, 1e-4)):
        flat = torch.zeros(2, L)
        for _ in range(400):
            made.after_step(
                made.statistics(
                    trace(flat, flat + 1, flat[None], torch.full((1, 2), -10 * sign)), Batch(torch.zeros(2, D))
                )
            )
        assert float(made.multiplier) == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("tolerance", [0.08, 0.5])
def test_the_multiplier_converges_to_that_of_the_constrained_optimum(tolerance):
    # min over r of r + lambda a exp(-r) has the distortion a exp(-r) = 1 / lambda, so 1 / lambda = tolerance D.
    made, flat = GECO(tolerance, speed=3.0, decay=0.5).double(), torch.zeros(2, L)
    for _ in range(300):
        log_px = (-1 / made.multiplier).expand(1, 2)
        made.after_step(made.statistics(trace(flat, flat + 1, flat[None], log_px), Batch(torch.zeros(2, D))))
    assert float(made.multiplier) == pytest.approx(1 / (tolerance * D), rel=1e-6)


def test_at_a_set_multiplier_the_loss_is_the_lagrangian():
    of, given = model(), batch(weighted=True)
    made, plain = GECO(0.3), outcome(ELBO(), of, given)
    made.log_multiplier.fill_(math.log(2.5))
    expected = given.mean(plain.terms["rate"] + 2.5 * (plain.terms["distortion"] - 0.3 * D))
    torch.testing.assert_close(first(made, of, given), expected)


# lagging inference


def test_the_decoder_waits_while_the_encoder_is_trained_ahead():
    of, given = model(), batch()
    made = Lagging(every=3, window=100).double()
    players = made.players(of)
    assert {len(players["inference"]), len(players["generative"])} == {4}
    optimizers, guard = make_optimizers(players, Training(lr=0.01)), Guard(torch.device("cpu"))
    moved = []
    for step in range(7):
        before = {name: [p.detach().clone() for p in mine] for name, mine in players.items()}
        update(made, of, optimizers, given, torch.tensor(float(step)), guard)
        moved.append([any(bool((a != b).any()) for a, b in zip(before[n], players[n], strict=True)) for n in players])
        if step == 4:
            made.aggressive.zero_()
    assert [inference for inference, _ in moved] == [True] * 7
    assert [generative for _, generative in moved] == [True, False, False, True, False, True, True]


def test_aggression_ends_with_the_first_window_whose_information_does_not_rise():
    made = Lagging(every=2, window=2).double()
    near, given = torch.zeros(2, L, dtype=torch.float64), Batch(torch.zeros(2, D))
    one = torch.ones_like(near)
    history = []
    for apart in (0.5, 0.5, 1.0, 1.5, 0.9, 0.8, 9.0, 9.0):
        loc = near + apart * torch.tensor([[-1.0], [1.0]])
        with torch.no_grad():
            made.after_step(made.statistics(trace(loc, one, loc[None]), given))
        history.append(float(made.aggressive))
    assert history == [1, 1, 1, 1, 1, 0, 0, 0]


def test_information_is_that_of_loops_and_lies_between_nothing_and_log_B():
    torch.manual_seed(3)
    loc, scale = torch.randn(4, 2, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64) + 0.3
    z, share = loc + scale * torch.randn(3, 4, 2, dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    latent = trace(loc, scale, z).latents[0]
    found = information(latent, share)
    for k, i in itertools.product(range(3), range(4)):
        each = [math.exp(float(torch.distributions.Normal(loc[j], scale[j]).log_prob(z[k, i]).sum())) for j in range(4)]
        expected = math.log(each[i]) - math.log(sum(float(share[j]) * each[j] for j in range(4)))
        assert float(found[k, i]) == pytest.approx(expected, rel=1e-10)
    equal = torch.full((4,), 0.25, dtype=torch.float64)
    same, wide = torch.zeros_like(loc), 1000.0 * torch.arange(4.0).double()[:, None].expand(4, 2)
    assert float(information(trace(same, scale * 0 + 1, z).latents[0], equal).abs().max()) < 1e-12
    torch.testing.assert_close(
        information(trace(wide, scale, wide[None]).latents[0], equal),
        torch.full((1, 4), math.log(4), dtype=torch.float64),
    )
