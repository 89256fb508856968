"""Known bugs of VAE code, each made again as one small change of `src/lowerbound`, and the test that notices it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Args:
        name: short and unique.
        story: what is wrong, and where it was met.
        file: the file that is changed, under `src/lowerbound`.
        old: what stands there, exactly once.
        new: what the bug makes of it.
        test: the test that must fail, as pytest names it, under `tests`.
    """

    name: str
    story: str
    file: str
    old: str
    new: str
    test: str


_MANY = "more than twenty public repositories and tutorials scale the two parts of the loss differently"

LOSS = (
    Mutant(
        "kl-mean-over-dimensions",
        f"the KL averaged over latent dimensions, not summed: {_MANY}",
        "families/normal.py",
        "return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log()))",
        "return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log())) / max(1, q.event_shape.numel())",
        "families/test_kl.py::test_closed_form_agrees_with_torch_and_adds_over_dimensions",
    ),
    Mutant(
        "distortion-mean-over-pixels",
        f"the reconstruction term averaged over pixels while the KL is summed, beta = D in disguise: {_MANY}",
        "core/types.py",
        "distortion, rate = -self.mean(self.log_px), self.mean(self.kl)",
        "distortion, rate = -self.mean(self.log_px) / self.px.event_shape.numel(), self.mean(self.kl)",
        "oracles/test_linear_gaussian.py::test_elbo_objective_has_the_golden_values",
    ),
    Mutant(
        "kl-without-half",
        "the factor 1/2 of the KL left out: a classic of hand-written losses",
        "families/normal.py",
        "return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log()))",
        "return q._sum_events(ratio + shift - 1 - ratio.log())",
        "families/test_kl.py::test_golden_values",
    ),
    Mutant(
        "kl-wrong-constant",
        "the constant of the KL wrong, so that losses look better than any published: reported in a public repository",
        "families/normal.py",
        "return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log()))",
        "return q._sum_events(0.5 * (ratio + shift - 2 - ratio.log()))",
        "families/test_kl.py::test_a_divergence_is_positive_and_zero_only_between_equals",
    ),
    Mutant(
        "kl-log-with-epsilon",
        "log(1e-8 + sigma^2) in the KL, which makes small variances cheap (4.6 nats a dimension at sigma = 1e-6): "
        "in a tutorial of 2017",
        "families/normal.py",
        "return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log()))",
        "return q._sum_events(0.5 * (ratio + shift - 1 - (ratio + 1e-8).log()))",
        "families/test_kl.py::test_closed_form_is_the_integral",
    ),
    Mutant(
        "kl-direction-swapped",
        "KL(p || q) in place of KL(q || p): prior and posterior exchanged in the call",
        "core/types.py",
        "closed = kl_divergence(self.q, self.p) if",
        "closed = kl_divergence(self.p, self.q) if",
        "oracles/test_linear_gaussian.py::test_elbo_objective_has_the_golden_values",
    ),
    Mutant(
        "closed-form-kl-for-observed-labels",
        "the closed-form KL charged for values that were not drawn from q, such as a known label",
        "core/types.py",
        "if self.drawn and self.q is not None else None",
        "if self.q is not None else None",
        "oracles/test_identities.py::test_the_closed_form_rate_is_used_only_for_draws_of_q",
    ),
    Mutant(
        "constants-dropped",
        "D/2 log(2 pi) left out of the normal density (720 nats on MNIST): the default of a widely used loss function",
        "families/normal.py",
        "return -0.5 * (((value - self.loc) / self.scale).square() + LOG_2PI) - self.scale.log()",
        "return -0.5 * ((value - self.loc) / self.scale).square() - self.scale.log()",
        "oracles/test_linear_gaussian.py::test_elbo_objective_has_the_golden_values",
    ),
    Mutant(
        "beta-ignored",
        "beta accepted and not used: reported in a public library",
        "objectives/elbo.py",
        'terms["distortion"] + at(self.beta, step) * terms["rate"]',
        'terms["distortion"] + terms["rate"]',
        "oracles/test_linear_gaussian.py::test_elbo_objective_has_the_golden_values",
    ),
    Mutant(
        "elbo-reported-with-beta",
        "the weighted loss reported, and compared between epochs, as the ELBO: under a warm-up early epochs look best",
        "objectives/elbo.py",
        "        return Outcome(",
        '        terms["elbo"] = -(terms["distortion"] + at(self.beta, step) * terms["rate"])\n        return Outcome(',
        "oracles/test_linear_gaussian.py::test_elbo_objective_has_the_golden_values",
    ),
    Mutant(
        "warm-up-counts-epochs",
        "the annealing schedule given the epoch where it counts steps, so that beta hardly moves",
        "train/learner.py",
        "step = torch.tensor(float(number), device=self.device)",
        "step = torch.tensor(float(number // 5), device=self.device)",
        "train/test_not_finite.py::test_the_last_good_weights_are_kept_whatever_broke",
    ),
    Mutant(
        "warm-up-never-ends",
        "beta rises on beyond its end",
        "train/schedules.py",
        "return self.start + (self.end - self.start) * torch.clamp(step / self.steps, max=1.0)",
        "return self.start + (self.end - self.start) * step / self.steps",
        "objectives/test_regularisers.py::test_capacity_follows_its_schedule_for_each_example",
    ),
    Mutant(
        "warm-up-does-not-hold-early-stopping",
        "early stopping and best weights judged while the objective still moves",
        "train/schedules.py",
        "        self.settled = steps\n",
        "        self.settled = 0\n",
        "train/test_loop.py::test_a_warm_up_settles_when_its_schedule_does",
    ),
    Mutant(
        "weights-normalised-in-the-batch",
        "row weights divided by their sum within each batch, which biases the gradient",
        "core/types.py",
        "(self.weight * value).mean()",
        "(self.weight * value).sum() / self.weight.sum()",
        "core/test_batch.py::test_the_mean_over_rows_follows_their_weights",
    ),
)

DRAWS = (
    Mutant(
        "log-variance-as-log-deviation",
        "exp(log variance) used as the standard deviation: reported in a public repository",
        "families/normal.py",
        "return (log_variance.exp() + floor**2).sqrt()",
        "return log_variance.exp() + floor",
        "oracles/test_linear_gaussian.py::test_the_exact_posterior_makes_every_draw_log_p",
    ),
    Mutant(
        "mu-plus-sigma",
        "mu + sigma returned as the sample, without noise: reported in a public library",
        "families/normal.py",
        "return self.loc + self.scale * eps",
        "return self.loc + self.scale * torch.ones_like(eps)",
        "oracles/test_estimates.py::test_every_row_and_sample_has_noise_of_its_own",
    ),
    Mutant(
        "mean-in-place-of-a-draw",
        "z = mean in place of a draw, and the result called ELBO: reported in public repositories",
        "core/walk.py",
        "    z, log_q = q.rsample_and_log_prob(sample_shape(q, shape))\n    return z, log_q, True",
        "    z, log_q, _ = mode(i, q, p, shape)\n    return z, log_q, True",
        "oracles/test_estimates.py::test_every_row_and_sample_has_noise_of_its_own",
    ),
    Mutant(
        "noise-shared-across-the-batch",
        "one eps for all rows of a batch",
        "families/normal.py",
        "eps = torch.randn(self._extended_shape(Size(sample_shape)), dtype",
        "eps = torch.randn((*sample_shape, *(1 for _ in self.batch_shape), *self.event_shape), dtype",
        "oracles/test_estimates.py::test_every_row_and_sample_has_noise_of_its_own",
    ),
    Mutant(
        "noise-shared-across-samples",
        "one eps for all K samples of a row, so that K > 1 is no better than 1",
        "families/normal.py",
        "return self.loc + self.scale * eps",
        "return self.loc + self.scale * (eps[:1].expand_as(eps) if len(sample_shape) else eps)",
        "oracles/test_estimates.py::test_every_row_and_sample_has_noise_of_its_own",
    ),
    Mutant(
        "same-noise-at-each-step",
        "eps reused: the generator seeded again without the step in it",
        "train/learner.py",
        "reseed(Stream.TRAINING, self.seed, number, *self.processes.keys())",
        "reseed(Stream.TRAINING, self.seed)",
        "train/test_determinism.py::test_each_step_has_noise_of_its_own",
    ),
    Mutant(
        "temperature-moves-the-mean",
        "the temperature multiplies z, and with it the prior's mean",
        "core/walk.py",
        "return p.mean + temperature * (z - p.mean), log_p - shrink, False",
        "return temperature * z, log_p - shrink, False",
        "core/test_temperature.py::test_a_temperature_scales_the_spread_and_leaves_the_mean",
    ),
    Mutant(
        "draws-of-the-prior-cost-nothing",
        "log q = 0 for z drawn from the prior, so that their weights are p(x, z) and not p(x|z)",
        "core/walk.py",
        "return z, p.log_prob(z), False",
        "return z, z.new_zeros(shape), False",
        "oracles/test_identities.py::test_draws_of_the_prior_have_the_weights_p_of_x_given_z",
    ),
    Mutant(
        "code-is-a-draw",
        "encode() returns a draw, another one at each call: met by running a public library",
        "core/model.py",
        "return self.infer(*self._here(x, y, mask)).mean",
        "return self.infer(*self._here(x, y, mask)).sample()",
        "oracles/test_estimates.py::test_active_units_are_those_whose_mean_varies_by_more_than_the_threshold",
    ),
    Mutant(
        "active-units-count-variances",
        "active units counted by the variance of draws, in which every collapsed unit is active",
        "evaluation/units.py",
        "    return torch.cat(means).var(0)",
        "    means = torch.cat(means)\n    return (means + torch.randn_like(means)).var(0)",
        "oracles/test_estimates.py::test_active_units_are_those_whose_mean_varies_by_more_than_the_threshold",
    ),
)

ESTIMATES = (
    Mutant(
        "mean-of-logs",
        "the mean of log w in place of the log of mean w, which is the ELBO again: reported in a public repository",
        "core/types.py",
        "return torch.logsumexp(self.log_share + value, 0)",
        "return (self.log_share.exp() * value).sum(0)",
        "oracles/test_bounds_by_enumeration.py::test_every_tuple_in_a_row_of_its_own_gives_the_golden_bound",
    ),
    Mutant(
        "logsumexp-over-data",
        "logsumexp over the rows and not over the samples: reported in a public repository",
        "core/types.py",
        "return torch.logsumexp(self.log_share + value, 0)",
        "return torch.logsumexp(self.log_share + value, 1).mean().expand(value.shape[1])",
        "oracles/test_linear_gaussian.py::test_with_the_exact_posterior_every_k_sample_bound_is_log_p",
    ),
    Mutant(
        "minus-log-K-for-weighted-samples",
        "logsumexp(log w) - log K where samples have unequal shares (an enumerated label): no bound at all",
        "core/types.py",
        "return torch.logsumexp(self.log_share + value, 0)",
        "return torch.logsumexp(value - value.new_tensor(len(value)).log(), 0)",
        "oracles/test_identities.py::test_shares_that_sum_to_one_are_the_same_as_repeated_samples",
    ),
    Mutant(
        "weighted-mean-as-the-iwae-bound",
        "the self-normalised mean of log w reported as the importance weighted bound",
        "objectives/iwae.py",
        "bound = trace.log_mean_exp(trace.log_w)",
        "bound = (trace.log_w.softmax(0) * trace.log_w).sum(0)",
        "oracles/test_bounds_by_enumeration.py::test_every_tuple_in_a_row_of_its_own_gives_the_golden_bound",
    ),
    Mutant(
        "miwae-M-and-K-swapped",
        "M and K exchanged, which no setting with M = K shows: met by running a public library",
        "objectives/multi_sample.py",
        "    log_share = trace.log_share.unflatten(0, (num_outer, -1))\n    of_set = log_share.logsumexp(1)\n"
        "    inner = (log_share + trace.log_w.unflatten(0, (num_outer, -1))).logsumexp(1) - of_set\n",
        "    log_share = trace.log_share.unflatten(0, (-1, num_outer))\n    of_set = log_share.logsumexp(1)\n"
        "    inner = (log_share + trace.log_w.unflatten(0, (-1, num_outer))).logsumexp(1) - of_set\n",
        "oracles/test_bounds_by_enumeration.py::test_every_tuple_in_a_row_of_its_own_gives_the_golden_bound",
    ),
    Mutant(
        "nll-sign",
        "+log p(x) returned under the name NLL: met by running a public library, whose tests state that sign",
        "evaluation/likelihood.py",
        "nll = mean_number(\n        -scores.log_px,",
        "nll = mean_number(\n        scores.log_px,",
        "evaluation/test_evaluation.py::test_the_numbers_fit_each_other",
    ),
    Mutant(
        "number-of-samples-ignored",
        "a request for few samples answered by a whole chunk of them: met by running a public library",
        "evaluation/importance.py",
        "decoding, batch, part, num_samples, keys, source)",
        "decoding, batch, part, max(num_samples, BLOCK_SAMPLES), keys, source)",
        "evaluation/test_score.py::test_one_block_equals_the_plain_sum",
    ),
    Mutant(
        "divided-by-the-samples-asked-for",
        "whole chunks drawn, and their sum divided by the number that was asked for: up to log 2 too high",
        "evaluation/importance.py",
        "samples = min(BLOCK_SAMPLES, num_samples - start)",
        "samples = BLOCK_SAMPLES",
        "oracles/test_estimates.py::test_constant_weights_give_log_p_for_any_number_of_samples",
    ),
    Mutant(
        "log-K-per-chunk",
        "each chunk normalised by itself, and the chunks then added",
        "evaluation/importance.py",
        "log_w = log_w.double().cpu()",
        "log_w = log_w.double().cpu() - math.log(len(log_w))",
        "oracles/test_estimates.py::test_constant_weights_give_log_p_for_any_number_of_samples",
    ),
    Mutant(
        "annealing-accepts-every-move",
        "Hamiltonian moves of annealed importance sampling without the test that makes them exact",
        "evaluation/annealed.py",
        "z.device).log() < log_ratio",
        "z.device).log() < torch.inf",
        "evaluation/test_annealed.py::test_a_move_leaves_its_density_as_it_was",
    ),
    Mutant(
        "nats-called-bits",
        "nats for each value reported as bits",
        "evaluation/likelihood.py",
        "per_dim = 1 / (seen * math.log(2))",
        "per_dim = 1 / seen",
        "evaluation/test_evaluation.py::test_the_numbers_fit_each_other",
    ),
    Mutant(
        "evaluated-in-training-mode",
        "dropout and batch statistics left on in evaluation: reported in several public repositories",
        "core/model.py",
        "    module.eval()\n    try:",
        "    try:",
        "oracles/test_estimates.py::test_evaluation_is_the_same_in_either_mode_and_leaves_the_mode",
    ),
    Mutant(
        "dreg-with-w",
        "the doubly reparameterised gradient with weights v in place of v^2",
        "objectives/doubly.py",
        "return share.square()",
        "return share",
        "objectives/test_gradients_of_bounds.py::test_dreg_has_the_mean_gradient_of_iwae_in_every_parameter",
    ),
    Mutant(
        "stl-without-detach",
        "sticking the landing with the score of q left in",
        "objectives/doubly.py",
        "frozen = {name: parameter.detach() for",
        "frozen = {name: parameter for",
        "objectives/test_gradients_of_bounds.py::test_at_the_posterior_the_encoder_has_no_noise_at_all",
    ),
)

FAMILIES = (
    Mutant(
        "clipped-probabilities",
        "clip(p, 1e-8, 1 - 1e-8): in float32 the upper clip does nothing, as 1 - 1e-8 is 1, and a sure pixel gives "
        "log 0; reported in several public repositories",
        "families/bernoulli.py",
        "return value * self.logits - F.softplus(self.logits, threshold=_EXACT_BELOW)",
        "p = self.mean.clamp(1e-8, 1 - 1e-8)\n        return value * p.log() + (1 - value) * (1 - p).log()",
        "families/test_family_limits.py::test_extreme_logits_are_exact",
    ),
    Mutant(
        "bernoulli-takes-grey",
        "cross-entropy of values that are not 0 or 1 taken for a likelihood: reported in public repositories",
        "core/distribution.py",
        '    "binary": ("binary",),',
        '    "binary": ("binary", "levels", "inner", "unit"),',
        "core/test_rules.py::test_a_likelihood_takes_only_data_in_its_support",
    ),
    Mutant(
        "support-not-checked-at-evaluation",
        "values outside the support scored without a word; a Bernoulli loss of pixels 0 to 255 has no lower bound: "
        "reported in several public repositories",
        "core/rules.py",
        "    if not contains(family.support, support):\n        raise",
        "    if False:\n        raise",
        "evaluation/test_evaluation.py::test_grey_rows_kept_grey_are_refused_by_a_model_of_binary_ones",
    ),
    Mutant(
        "variance-overflows",
        "exp(log variance) without a bound: NaN reported in many public repositories",
        "families/normal.py",
        "capped = LOG_VARIANCE_CAP - F.softplus(LOG_VARIANCE_CAP - raw)",
        "capped = raw",
        "families/test_family_limits.py::test_extreme_parameters_keep_the_floor_and_stay_finite",
    ),
    Mutant(
        "softplus-underflows",
        "a softplus scale without a floor is 0 below -103 in float32",
        "families/normal.py",
        "return DiagonalNormal(loc, F.softplus(raw) + self.floor, dims)",
        "return DiagonalNormal(loc, F.softplus(raw), dims)",
        "families/test_family_limits.py::test_extreme_parameters_keep_the_floor_and_stay_finite",
    ),
    Mutant(
        "half-precision-densities",
        "densities computed in half precision: NaN reported in several public repositories",
        "core/distribution.py",
        "return params.float() if params.dtype in (torch.float16, torch.bfloat16) else params",
        "return params",
        "families/test_family_limits.py::test_half_precision_parameters_are_scored_in_float32",
    ),
    Mutant(
        "edge-bins-open",
        "the first and the last level without the tails, so that the levels do not sum to one: discussed in public "
        "repositories",
        "families/discretized_logistic.py",
        "first, last = levels <= 0, levels >= top",
        "first, last = levels < 0, levels > top",
        "families/test_discretized_logistic.py::test_the_levels_sum_to_one",
    ),
    Mutant(
        "bin-width",
        "half of the bin width where the whole belongs (127.5 and 255): discussed in public repositories",
        "families/discretized_logistic.py",
        "above, below = (levels + 0.5 - loc) / scale, (levels - 0.5 - loc) / scale",
        "above, below = (levels + 0.25 - loc) / scale, (levels - 0.25 - loc) / scale",
        "families/test_discretized_logistic.py::test_the_levels_sum_to_one",
    ),
    Mutant(
        "continuous-bernoulli-without-constant",
        "cross-entropy of grey pixels taken for a density: widespread (Loaiza-Ganem & Cunningham 2019)",
        "families/continuous_bernoulli.py",
        "return torch.where(near, close, far)",
        "return torch.where(near, close, far) - self.log_normalizer",
        "families/test_continuous_bernoulli.py::test_it_is_the_exact_density_with_its_gradient_and_moments",
    ),
    Mutant(
        "continuous-bernoulli-taylor",
        "a wrong term in the Taylor series around 1/2: reported in a public library",
        "families/continuous_bernoulli.py",
        "1 / 24, -1 / 2880,",
        "1 / 24, 1 / 2880,",
        "families/test_continuous_bernoulli.py::test_it_is_the_exact_density_with_its_gradient_and_moments",
    ),
    Mutant(
        "sigma-of-the-scored-batch",
        "the optimal variance taken from the batch that is scored: the number depends on what is scored beside it",
        "core/model.py",
        "        px = self.decoder(state, batch.y)\n        log_px",
        '        px = self.decoder(state, batch.y)\n        if hasattr(self.decoder.family, "mean_square"):\n'
        "            px.scale = (batch.x - px.mean).square().mean().sqrt()\n        log_px",
        "families/test_optimal_sigma.py::test_a_row_is_scored_alike_whatever_is_scored_beside_it",
    ),
    Mutant(
        "mask-ignored",
        "missing cells scored by whatever stands in for them",
        "core/model.py",
        "px.log_prob(batch.x, batch.mask)",
        "px.log_prob(batch.x)",
        "core/test_batch.py::test_masked_values_change_nothing_whatever_they_hold",
    ),
    Mutant(
        "masked-cells-scored-outside-the-support",
        "masked cells scored first and left out afterwards: 0 times NaN is NaN, in the value or in the gradient",
        "core/distribution.py",
        "elements = self._log_prob_elements(torch.where(observed, value, self.filler))",
        "elements = self._log_prob_elements(value)",
        "families/test_family_limits.py::test_masked_cells_count_nothing_whatever_they_hold",
    ),
)

DATA = (
    Mutant(
        "pixels-not-scaled",
        "pixels of 0 to 255 given to a model of [0, 1]: reported in several public repositories",
        "data/dataset.py",
        "return x.float() / scale if scale != 1 else x.float()",
        "return x.float()",
        "data/test_binarise.py::test_none_keeps_grey_values_in_model_units",
    ),
    Mutant(
        "channels-last-read-as-first",
        "height, width, channels read as channels, height, width: reported in several public repositories",
        "data/arrays.py",
        "x = x.permute(0, 3, 1, 2).contiguous()",
        "x = x.reshape(len(x), x.shape[3], *x.shape[1:3])",
        "data/test_arrays.py::test_colours_of_a_pixel_become_channels",
    ),
    Mutant(
        "scaler-fitted-on-all-rows",
        "columns standardised with the mean and deviation of all rows, test rows included: reported in public "
        "repositories, in one of them with much worse results once it was put right",
        "data/columns.py",
        "fitted, notes = fit_columns(columns, cells, plan.train.numpy())",
        "fitted, notes = fit_columns(columns, cells, np.arange(len(cells.observed)))",
        "data/test_load.py::test_a_table_is_typed_standardised_and_kept_with_its_units",
    ),
    Mutant(
        "scaler-refitted-on-test-rows",
        "new rows standardised by themselves: reported in a public repository",
        "data/dataset.py",
        "        if self.spec.columns != spec.columns:\n",
        "        if False:\n",
        "evaluation/test_units_of_columns.py::test_rows_standardised_by_themselves_are_refused",
    ),
    Mutant(
        "test-pixels-drawn-anew",
        "grey test pixels binarised anew at each evaluation: 1 to 2 nats, as a public repository says of itself",
        "data/dataset.py",
        'if protocol == "dynamic" and resample:',
        'if protocol == "dynamic":',
        "data/test_binarise.py::test_dynamic_pixels_outside_training_are_drawn_once_by_the_data_seed",
    ),
)

TRAINING = (
    Mutant(
        "mean-of-batch-means",
        "an epoch's number is the mean over batches, in which a short last one counts too much: reported in several "
        "public libraries",
        "train/progress.py",
        "added = (values if weight is None else weight * values).sum()\n"
        "            self.sums[name] = self.sums[name] + added if name in self.sums else added\n"
        "        rows = next(iter(terms.values())).shape[0] if weight is None else weight.double().sum()",
        "added = (values if weight is None else weight * values).mean()\n"
        "            self.sums[name] = self.sums[name] + added if name in self.sums else added\n"
        "        rows = 1",
        "train/test_loop.py::test_an_epochs_number_is_the_mean_over_rows_not_over_batches",
    ),
    Mutant(
        "same-order-in-each-epoch",
        "the sampler never told the epoch, so that the order is always the same: reported in public libraries",
        "data/order.py",
        "yield torch.randperm(self.count, generator=generator(Stream.ORDER, seed, epoch))",
        "yield torch.randperm(self.count, generator=generator(Stream.ORDER, seed))",
        "train/test_loop.py::test_every_row_is_visited_once_an_epoch_and_the_last_batch_may_be_short",
    ),
    Mutant(
        "optimizer-state-lost",
        "a checkpoint without the optimiser's moments",
        "train/checkpoint.py",
        'optimizer.load_state_dict(_joined(saved["optimizers"][name], _under(tensors, f"optimizer/{name}/")))',
        '_joined(saved["optimizers"][name], _under(tensors, f"optimizer/{name}/"))',
        "train/test_checkpoint.py::test_going_on_from_a_checkpoint_equals_going_on",
    ),
    Mutant(
        "best-weights-with-current-optimizer",
        "training goes on from the best weights with the optimiser's last moments",
        "train/keeper.py",
        "        load_checkpoint(path, state)\n",
        "        load_checkpoint(path, state)\n        learner.model.load_state_dict(state.best)\n",
        "train/test_average.py::test_a_stopped_run_goes_on_with_its_average",
    ),
    Mutant(
        "best-weights-are-the-last",
        "the best weights kept by reference, so that further steps change them",
        "train/judging.py",
        "Best(value, progress.epoch, copy.deepcopy(model.state_dict()))",
        "Best(value, progress.epoch, model.state_dict())",
        "train/test_loop.py::test_the_weights_kept_are_those_of_the_best_epoch",
    ),
    Mutant(
        "noise-not-restored",
        "noise from a generator that is seeded once and not restored: reported in several public libraries",
        "train/learner.py",
        "        reseed(Stream.TRAINING, self.seed, number, *self.processes.keys())\n",
        "        if not number:\n            reseed(Stream.TRAINING, self.seed, number, *self.processes.keys())\n",
        "train/test_resume.py::test_a_stopped_run_ends_as_if_it_had_not_been_stopped",
    ),
    Mutant(
        "epoch-starts-again-at-resume",
        "a run that stopped inside an epoch visits its first rows once more: reported in several public libraries",
        "train/loop.py",
        "islice(batches, skip, None)",
        "islice(batches, 0, progress.steps_per_epoch - skip)",
        "train/test_resume.py::test_a_stopped_run_ends_as_if_it_had_not_been_stopped",
    ),
    Mutant(
        "gradients-pile-up",
        "gradients never set to zero",
        "train/update.py",
        "optimizer.zero_grad(set_to_none=True)",
        "pass",
        "train/test_update.py::test_gradients_do_not_pile_up_from_step_to_step",
    ),
    Mutant(
        "checked-after-the-step",
        "NaN looked for after the optimiser's step, when the weights are lost",
        "train/update.py",
        "_step_unless(optimizers[name], skip)",
        "_step_unless(optimizers[name], torch.zeros_like(skip))",
        "train/test_not_finite.py::test_the_last_good_weights_are_kept_whatever_broke",
    ),
    Mutant(
        "critic-moves-the-encoder",
        "the critic's loss sends its gradient into the encoder: met by running a public library",
        "train/update.py",
        "part.backward(inputs=cast.players[name], retain_graph=i + 1 < len(outcome.losses))",
        "part.backward(retain_graph=i + 1 < len(outcome.losses))",
        "train/test_update.py::test_each_player_moves_along_the_gradient_of_its_own_loss_alone",
    ),
    Mutant(
        "average-of-buffers",
        "the moving average taken of buffers too, whole numbers among them",
        "train/learner.py",
        "AveragedModel(model, multi_avg_fn=average)",
        "AveragedModel(model, multi_avg_fn=average, use_buffers=True)",
        "train/test_average.py::test_buffers_are_the_models_own",
    ),
)

PROCESSES = (
    Mutant(
        "processes-averaged-alike",
        "gradients of processes averaged without the numbers of their rows, as wrappers for several processes do",
        "train/processes.py",
        "torch.zeros_like(p) if p.grad is None else p.grad * rows for p in parameters]\n"
        "    there = [*(float(p.grad is not None) for p in parameters), float(rows)]",
        "torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]\n"
        "    there = [*(float(p.grad is not None) for p in parameters), 1.0]",
        "train/test_processes.py::test_gradients_of_two_processes_are_those_of_one",
    ),
    Mutant(
        "padding-row-counts",
        "a row counted twice, that a process passes only because a batch has fewer rows than there are processes",
        "train/processes.py",
        "else (index[:1], 0)",
        "else (index[:1], 1)",
        "train/test_processes.py::test_each_row_counts_in_one_process",
    ),
    Mutant(
        "padding-row-in-an-epochs-mean",
        "such a row left out of the gradient and kept in the epoch's numbers",
        "train/learner.py",
        "return outcome, batch.weight if counting else torch.zeros(len(batch.x), device=self.device)",
        "return outcome, batch.weight",
        "train/test_processes.py::test_an_epochs_number_is_the_mean_over_the_rows_of_all_processes",
    ),
    Mutant(
        "padding-row-teaches-state",
        "such a row left out of the gradient and kept in what multipliers and running variances learn from",
        "train/update.py",
        "counted = [value.detach() if rows else torch.zeros_like(value) for value in sums.values()]",
        "counted = [value.detach() for value in sums.values()]",
        "train/test_processes.py::test_state_learns_from_the_rows_of_all_processes",
    ),
    Mutant(
        "gradient-in-one-process-alone",
        "a parameter that the rows of one process alone reach is moved there alone, and the copies come apart",
        "train/processes.py",
        "if parameter.grad is not None or bool(rest[i]):",
        "if parameter.grad is not None:",
        "train/test_processes.py::test_gradients_of_two_processes_are_those_of_one",
    ),
    Mutant(
        "state-learns-from-one-process",
        "state that no gradient moves learns from the rows of its own process, and the copies come apart",
        "train/update.py",
        "dict(zip(sums, added[len(numbers) :], strict=True))",
        "sums",
        "train/test_processes.py::test_state_learns_from_the_rows_of_all_processes",
    ),
    Mutant(
        "epoch-of-one-process",
        "an epoch's numbers are those of the rows that the first process passed",
        "train/loop.py",
        "return progress.totals.of_all(self.processes).means()",
        "return progress.totals.means()",
        "train/test_processes.py::test_an_epochs_number_is_the_mean_over_the_rows_of_all_processes",
    ),
    Mutant(
        "validation-of-one-process",
        "best weights and early stopping judged by a part of the validation rows, in each process another one",
        "train/judging.py",
        "return totals.of_all(processes).means()",
        "return totals.means()",
        "train/test_processes.py::test_metrics_of_1001_rows_are_exact",
    ),
    Mutant(
        "same-noise-in-every-process",
        "the seed of all processes alike, so that the rows of each meet the same noise",
        "train/processes.py",
        "return (self.rank,) if self.size > 1 else ()",
        "return ()",
        "train/test_processes.py::test_each_step_has_noise_of_its_own_in_each_process",
    ),
    Mutant(
        "divided-weights-averaged-alike",
        "with weights divided among processes, their gradients averaged without the numbers of rows",
        "train/sharding.py",
        "(counts / total * torch.stack",
        "(min(counts, 1) / self.processes.size * torch.stack",
        "train/test_sharding.py::test_steps_are_those_of_one_process_and_of_whole_copies",
    ),
    Mutant(
        "padding-row-counts-where-weights-are-divided",
        "with weights divided among processes, a row counted twice that one passes only because all have to",
        "train/sharding.py",
        "yield batch.rows(slice(0, 1)), 0",
        "yield batch.rows(slice(0, 1)), 1",
        "train/test_sharding.py::test_steps_are_those_of_one_process_and_of_whole_copies",
    ),
    Mutant(
        "padding-row-teaches-state-where-weights-are-divided",
        "with weights divided among processes, such a row kept in what a multiplier learns from",
        "train/sharding.py",
        "                if not counts:\n",
        "                if False:\n",
        "train/test_sharding.py::test_steps_are_those_of_one_process_and_of_whole_copies",
    ),
    Mutant(
        "state-learns-from-one-process-where-weights-are-divided",
        "with weights divided among processes, a multiplier learns from the rows of its own process",
        "train/sharding.py",
        "added[len(numbers) + i].to(value) for i",
        "value for i",
        "train/test_sharding.py::test_steps_are_those_of_one_process_and_of_whole_copies",
    ),
)

ZOO = (
    Mutant(
        "log-determinant-sign",
        "the log-determinant added where it is to be subtracted: reported in several public libraries",
        "flows/flowed.py",
        "return z, self.base.log_prob(noise) - log_det",
        "return z, self.base.log_prob(noise) + log_det",
        "flows/test_flow_densities.py::test_the_density_of_a_draw_is_the_change_of_variables",
    ),
    Mutant(
        "half-of-the-log-determinant",
        "the log-determinant of a coupling summed over a part of the moved dimensions",
        "flows/coupling.py",
        "return torch.cat([b, a.expand(*b.shape[:-1], self.keep)], -1), log_slope.sum(-1).expand(b.shape[:-1])",
        "half = log_slope[..., : (self.moved + 1) // 2].sum(-1)\n"
        "        return torch.cat([b, a.expand(*b.shape[:-1], self.keep)], -1), half.expand(b.shape[:-1])",
        "flows/test_maps.py::test_the_log_determinant_is_that_of_the_jacobian",
    ),
    Mutant(
        "inverse-keeps-the-sign",
        "the inverse reports the log-determinant of the forward map; a test that compares cached values cannot see it",
        "flows/elements.py",
        "return (y - shift) * (-log_scale).exp(), -log_scale",
        "return (y - shift) * (-log_scale).exp(), log_scale",
        "flows/test_maps.py::test_the_inverse_is_the_inverse",
    ),
    Mutant(
        "foreign-z-scored-by-the-forward-map",
        "the density of a z that the flow did not draw, by the map that goes the other way",
        "flows/flowed.py",
        "noise, log_det = self.flow.inverse(self._flat(value), self.context)",
        "noise, log_det = self.flow(self._flat(value), self.context)",
        "flows/test_flow_densities.py::test_a_density_integrates_to_one_and_draws_have_it",
    ),
    Mutant(
        "autoregressive-mask-off-by-one",
        "the mask of an autoregressive network lets each dimension see itself, which its log-determinant leaves out",
        "flows/autoregressive.py",
        "degrees = [*range(1, size + 1), *[0] * context]",
        "degrees = [*range(size), *[0] * context]",
        "flows/test_maps.py::test_the_log_determinant_is_that_of_the_jacobian",
    ),
    Mutant(
        "mixture-weights-not-normalised",
        "the weights of a mixture used as they were learned",
        "families/mixture.py",
        "self.components, self.log_weights = components, log_weights.log_softmax(-1)",
        "self.components, self.log_weights = components, log_weights",
        "priors/test_mixtures.py::test_density_mean_and_variance_are_those_of_torch",
    ),
    Mutant(
        "pseudo-inputs-detached",
        "pseudo-inputs of a VampPrior that never learn",
        "priors/vamp.py",
        "lent(infer, self)(self.inputs)",
        "lent(infer, self)(self.inputs.detach())",
        "priors/test_mixtures.py::"
        "test_the_rate_of_a_vamp_prior_teaches_pseudo_inputs_and_encoder_and_no_weight_is_stored_twice",
    ),
    Mutant(
        "exemplars-explain-themselves",
        "an example is in its own prior in training, and learnt by heart",
        "priors/exemplar.py",
        "log_weights = log_weights.masked_fill(own, -torch.inf)",
        "log_weights = log_weights.expand(own.shape)",
        "priors/test_mixtures.py::test_an_exemplar_is_left_out_of_its_own_prior_in_training_and_nowhere_else",
    ),
    Mutant(
        "minibatch-weighted-total-correlation",
        "every posterior of the batch weighted by 1/(B N), which adds a constant to total correlation and information",
        "objectives/total_correlation.py",
        "weights = batch.x.new_full((rows, rows), other).masked_fill(own, -math.log(size))",
        "weights = batch.x.new_full((rows, rows), -math.log(rows * size))",
        "objectives/test_aggregate_codes.py::test_a_batch_of_all_data_gives_the_aggregate_posterior_exactly",
    ),
    Mutant(
        "mmd-with-the-diagonal",
        "each code compared with itself: a biased estimate that rewards small batches",
        "objectives/mmd.py",
        "pairs = (share[:, None] * share) * (1 - torch.eye(len(share), dtype=share.dtype, device=share.device))",
        "pairs = share[:, None] * share",
        "objectives/test_aggregate_codes.py::test_mmd_is_that_of_sums_in_loops",
    ),
    Mutant(
        "mmd-rewarded",
        "default weights whose sum makes the coefficient of the discrepancy negative: met by running a public library",
        "objectives/mmd.py",
        'if not -float("inf") < alpha <= 1 or alpha + weight < 1:',
        'if not -float("inf") < alpha <= 1:',
        "objectives/test_regularisers.py::test_impossible_settings_are_refused",
    ),
    Mutant(
        "critic-sees-the-graph",
        "codes given to the critic with their gradient: met by running a public library",
        "objectives/factor.py",
        "self._critic_loss(z.detach(), batch.weight)",
        "self._critic_loss(z, batch.weight)",
        "objectives/test_aggregate_codes.py::test_the_critics_loss_cannot_move_the_model",
    ),
    Mutant(
        "multiplier-moved-by-a-pass",
        "GECO's multiplier changed in the forward pass, so that validation moves it",
        "objectives/geco.py",
        '        loss = batch.mean(terms["rate"] + self.multiplier * above)\n',
        "        with torch.no_grad():\n            self.after_step(self.statistics(trace, batch))\n"
        '        loss = batch.mean(terms["rate"] + self.multiplier * above)\n',
        "objectives/test_regularisers.py::test_at_a_set_multiplier_the_loss_is_the_lagrangian",
    ),
)

MUTANTS = (*LOSS, *DRAWS, *ESTIMATES, *FAMILIES, *DATA, *TRAINING, *PROCESSES, *ZOO)
