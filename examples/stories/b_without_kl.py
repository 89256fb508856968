"""Without the KL term the noise goes away and the VAE becomes an autoencoder; two squares, and the KL, keep it up."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import log, pi

import torch
from story import Story

import lowerbound as lb
from lowerbound.core.walk import Source, from_posterior, mode
from lowerbound.explore import figures
from lowerbound.explore.latents import encode_rows

VARIANCE = 1.5  # of the Normal likelihood whose ELBO is the tutorial's |x - D(z)|^2 + 3 KL
TUTORIAL_BATCH = 32  # the tutorial prints sums over so many images
LATENT_DIM = 8


@dataclass
class Watched:
    """What is looked at after each epoch: the noise, alone and against the spread of the codes."""

    rows: lb.Dataset
    sigma: list[tuple[float, float]] = field(default_factory=list)
    ratio: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, model: lb.VAE, epoch: int) -> None:
        """Note mean sigma, and the noise's root mean square over that of the codes' deviations from their mean."""
        codes = encode_rows(model, self.rows)
        self.sigma.append((epoch, float(codes.scale.mean())))
        self.ratio.append((epoch, float((codes.scale.square().mean() / codes.mean.var(0).mean()).sqrt())))


def autoencoder(spec: lb.DataSpec, hidden: int) -> lb.Recipe:
    """Return the tutorial's network with a point for a posterior: the plain autoencoder."""
    recipe = lb.recipes.workshop_vae_2025(spec, latent_dim=LATENT_DIM, hidden=hidden)
    encoder = lb.networks.MLP(spec.shape, (LATENT_DIM,), (hidden, LATENT_DIM), "relu")
    group = lb.groups.Flat(lb.families.Delta((LATENT_DIM,)), lb.priors.StandardNormal((LATENT_DIM,)))
    return recipe.replace(
        encoder=lb.Encoder([encoder]), groups=(group,), objective=lb.objectives.Reconstruction(), name="custom"
    )


def squared_error(distortion: float, dims: int) -> float:
    """Return |x - D(z)|^2 from -log N(x; D(z), 3/2 I) in nats."""
    return 2 * VARIANCE * (distortion - dims / 2 * log(2 * pi * VARIANCE))


def two_squares(story: Story) -> None:
    """Compare the KL of one dimension with a mu^2 + b (log sigma^2)^2 by the closed form."""
    log_variance = torch.linspace(-6, 2, 161, dtype=torch.float64)
    kl = 0.5 * (log_variance.exp() - log_variance - 1)
    square = log_variance.square() / 4
    lines = {"KL": kl, "(log sigma^2)^2 / 4": square}
    points = {name: list(zip(log_variance.tolist(), line.tolist(), strict=True)) for name, line in lines.items()}
    story.draw("squares", figures.curves(points, x="log sigma^2", y="nats", title="One dimension at mu = 0"))
    at = log_variance.sub(-4).abs().argmin()
    far = story.number("square_at_4", square[at], "(log s2)^2 / 4 at log s2 = -4", "nats")
    true = story.number("kl_at_4", kl[at], "KL at log s2 = -4", "nats")
    near = log_variance.abs() < 0.11
    worst = ((square - kl)[near].abs() / log_variance[near].abs().pow(3).clamp_min(1e-12)).max()
    story.number("third_order", worst, "|square - KL| / |log s2|^3 near 0 (the series says 1/12)")
    story.claim(
        "C6",
        "corrected",
        f"KL = mu^2/2 + (log s2)^2/4 + O((log s2)^3): near N(0, I) the right ratio is 2 : 1. Far away the square "
        f"overcharges: {far:.2f} nats at log s2 = -4, where the KL is {true:.2f}.",
        f"KL = mu^2/2 + (log s2)^2/4 + O((log s2)^3)：在 N(0, I) 附近正确的比例是 2 : 1；远离时平方项罚得过重："
        f"log s2 = -4 处为 {far:.2f} nats，而 KL 只有 {true:.2f}。",
    )


def seed_loss(run: lb.Run, dims: int, *, kl: bool) -> list[float]:
    """Return the loss of each epoch as the tutorial prints it: |x - D(z)|^2, + 3 KL, summed over a batch of 32."""
    epochs = [e for e in run.history if e["split"] == "train"]
    return [TUTORIAL_BATCH * (squared_error(e["distortion"], dims) + (3 * e["rate"] if kl else 0)) for e in epochs]


def tell(story: Story) -> None:
    """Train the tutorial's network four times: as an autoencoder, without the KL, with two squares, with the KL."""
    data = lb.load_data("digits" if story.small else "mnist", binarize="none")
    epochs, hidden = (3, 64) if story.small else (10, 256)
    spec, dims = data.spec, data.spec.dims
    workshop = lb.recipes.workshop_vae_2025(spec, latent_dim=LATENT_DIM, hidden=hidden)
    recipes = {
        "no KL": workshop.replace(objective=lb.objectives.Reconstruction(), name="custom"),
        "two squares": workshop.replace(objective=lb.objectives.SimpleRegularizer(), name="custom"),
        "KL": workshop,
    }
    watched = {name: Watched(data.valid.take(1000)) for name in recipes}
    runs = {name: _train(recipe, data, epochs, watched[name]) for name, recipe in recipes.items()}
    plain = _train(autoencoder(spec, hidden), data, epochs, lambda model, epoch: None)
    _noise(story, watched)
    _becomes_an_autoencoder(story, runs["no KL"], plain, data)
    _tug_of_war(story, runs["KL"], watched["KL"], dims)
    _samples(story, {"autoencoder": plain, **runs})
    two_squares(story)


def _train(recipe: lb.Recipe, data: lb.Data, epochs: int, watcher: Callable[[lb.VAE, int], None]) -> lb.Run:
    return lb.fit(recipe, data, epochs=epochs, seed=0, progress=False, watchers=(watcher,))


def _noise(story: Story, watched: dict[str, Watched]) -> None:
    lines = {name: seen.ratio for name, seen in watched.items()}
    title = "Noise against the spread of the codes, root mean squares over 8 dimensions"
    story.draw("noise", figures.curves(lines, x="epoch", y="sigma / sd(mu)", title=title, logy=True, markers=True))
    for name, seen in watched.items():
        key = name.replace(" ", "_").lower()
        story.number(f"sigma_first_{key}", seen.sigma[1][1], f"{name}: mean sigma after epoch 1")
        story.number(f"sigma_last_{key}", seen.sigma[-1][1], f"{name}: mean sigma at the end")
        story.number(f"ratio_last_{key}", seen.ratio[-1][1], f"{name}: sigma / sd(mu) at the end")
    gone, kept = watched["no KL"].ratio[-1][1], watched["KL"].ratio[-1][1]
    story.find(
        f"without the KL the noise dies: sigma / sd(mu) ends at {gone:.2g}, with it at {kept:.2g}",
        f"没有 KL 项，噪声会消失：sigma / sd(mu) 最终为 {gone:.2g}，有 KL 时为 {kept:.2g}",
        holds=gone < 0.1 * kept and gone < watched["no KL"].ratio[1][1],
    )
    first, last = watched["no KL"].sigma[1][1], watched["no KL"].sigma[-1][1]
    story.claim(
        "C4",
        "confirmed" if last < 0.5 * first and gone < 0.1 * kept else "open",
        f"Mean sigma {first:.2g} -> {last:.2g} from epoch 1 to the end; sigma / sd(mu), which no rescaling of z can "
        f"change, ends at {gone:.2g} ({kept:.2g} with the KL).",
        f"平均 sigma 从第 1 轮后的 {first:.2g} 降到 {last:.2g}；sigma / sd(mu)（不受 z 的缩放影响）最终为 {gone:.2g}"
        f"（有 KL 时为 {kept:.2g}）。",
    )


def _becomes_an_autoencoder(story: Story, without: lb.Run, plain: lb.Run, data: lb.Data) -> None:
    for name, run in (("no_kl", without), ("ae", plain)):
        last = [e for e in run.history if e["split"] == "valid"][-1]["distortion"]
        what = "no KL" if name == "no_kl" else "autoencoder"
        story.number(f"error_{name}", squared_error(last, data.spec.dims), f"{what}: |x - D(z)|^2 an image")
    rows = data.valid.take(1000).matching(without.recipe.spec)
    at_draw, at_mean = (_error_at(without.model, rows, source) for source in (from_posterior, mode))
    apart = story.number("error_of_noise", at_draw / at_mean - 1, "no KL: what the noise adds to the error, as a share")
    story.find(
        f"it becomes an autoencoder: at a draw of q(z|x) the squared error is {at_draw:.2f}, at its mean {at_mean:.2f}",
        f"它变成了自编码器：在 q(z|x) 的一次采样处平方误差为 {at_draw:.2f}，在其均值处为 {at_mean:.2f}",
        holds=abs(apart) < 0.01,
    )


def _error_at(model: lb.VAE, rows: lb.Dataset, source: Source) -> float:
    """Return the mean over rows of |x - D(z)|^2 with z from `source`."""
    x = rows.values()
    return float((x - model.reconstruct(x, source=source, seed=0)).square().flatten(1).sum(1).mean())


def _tug_of_war(story: Story, run: lb.Run, seen: Watched, dims: int) -> None:
    valid = [e for e in run.history if e["split"] == "valid"]
    points = [(e["rate"], squared_error(e["distortion"], dims) / (2 * VARIANCE)) for e in valid]
    story.draw("tug", figures.tug_of_war({"KL": points}, title="Distortion (without its constant) against rate"))
    losses = seed_loss(run, dims, kl=True)
    rate = story.number("rate_last", valid[-1]["rate"], "with the KL: rate at the end", "nats")
    error = story.number("error_kl", squared_error(valid[-1]["distortion"], dims), "with the KL: |x - D(z)|^2")
    story.number("loss_first", losses[0], "with the KL: the tutorial's loss, epoch 1, sum over 32 images")
    story.number("loss_last", losses[-1], "with the KL: the same at the end")
    apart = story.number("identity", _apart(run.model, seen.rows), "|x - D(z)|^2 + 3 KL against -3 ELBO, at the same z")
    story.claim(
        "C3",
        "corrected" if apart < 1e-3 else "open",
        f"SSE + 3 KL is the exact ELBO of a Gaussian decoder of variance 3/2 (sd 1.22 on pixels in [0, 1]), up to "
        f"scale and constant. It keeps {rate:.2f} nats an image at a squared error of {error:.1f}; its loss, summed "
        f"over 32 images as the seed prints it, goes from {losses[0]:.0f} to {losses[-1]:.0f}.",
        f"SSE + 3 KL 恰好是方差为 3/2 的高斯解码器（像素在 [0, 1] 时标准差 1.22）的 ELBO，差一个比例和常数。"
        f"每张图只保留 {rate:.2f} nats，平方误差 {error:.1f}；按种子文章的方式对 32 张图求和，loss 从 "
        f"{losses[0]:.0f} 降到 {losses[-1]:.0f}。",
    )
    rates, sigmas = [e["rate"] for e in valid], [s for _, s in seen.sigma[1:]]
    falls = sum(b < a for a, b in pairwise(rates))
    grows = sum(b > a for a, b in pairwise(sigmas))
    below = sum(d < r for r, d in points)
    story.number("rate_falls", falls, "epochs in which the rate fell")
    story.number("sigma_grows", grows, "epochs in which mean sigma grew")
    story.number("below", below, "epochs with a distortion below the rate")
    story.claim(
        "C5",
        "corrected" if not below and rates[-1] > rates[0] and sigmas[-1] < sigmas[0] else "open",
        f"The distortion (without its constant) was below the rate in {below} of {len(rates)} epochs. The KL went from "
        f"{rates[0]:.2f} to {rates[-1]:.2f} nats, falls from one epoch to the next: {falls}; mean sigma from "
        f"{sigmas[0]:.2f} to {sigmas[-1]:.2f}, rises: {grows}.",
        f"{len(rates)} 轮中，失真（去掉常数）低于 KL 的有 {below} 轮。KL 从 {rates[0]:.2f} 变为 {rates[-1]:.2f} nats，"
        f"其间逐轮下降 {falls} 次；平均 sigma 从 {sigmas[0]:.2f} 变为 {sigmas[-1]:.2f}，其间逐轮上升 {grows} 次。",
    )


def _apart(model: lb.VAE, rows: lb.Dataset) -> float:
    """Return the largest difference of the tutorial's loss and -3 ELBO less its constant, at the same z, in nats."""
    with torch.no_grad():
        trace = model(rows.batch(slice(None)))
        direct = (rows.values() - trace.px.mean[0]).square().flatten(1).sum(1) + 3 * trace.kl[0]
    bound = squared_error(0.0, rows.spec.dims) - 2 * VARIANCE * (trace.log_px[0] - trace.kl[0])
    return float((direct - bound).abs().max())


def _samples(story: Story, runs: dict[str, lb.Run]) -> None:
    figure, axes = figures.new_figure(7.0, 2.2, columns=len(runs))
    for place, (name, run) in zip(axes[0], runs.items(), strict=True):
        figures.show_images(place, run.model.sample(25, seed=0), columns=5, title=name)
    story.draw("samples", figure)
