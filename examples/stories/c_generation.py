"""Sampling works: images from N(0, I), maps of the codes, one coordinate that turns an 8 into a 3, digits on demand."""

from copy import deepcopy
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
import torch
from reader import Reader, reader
from sklearn.datasets import load_breast_cancer
from story import Story
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation.two_samples import frechet_distance
from lowerbound.explore import figures
from lowerbound.explore.latents import (
    encode_rows,
    even,
    interpolate,
    manifold,
    most_used,
    prior_of,
    quantiles,
    shares,
    traversal,
)

BETA = 100.0
REACH, STEPS = 0.98, 11  # a coordinate runs through the quantiles from 1% to 99% of its prior
FROM, TO = 8, 3
EIGHTS = 200
PCA_DIMS = 10


@dataclass(frozen=True)
class Size:
    """How much is trained and measured.

    Args:
        source: the data.
        rows: training images used, the first ones.
        epochs: of every model.
        hidden: widths of the encoder's hidden layers.
        samples: images in each share that is reported.
        grid: images in a row of a map of codes.
    """

    source: str
    rows: int
    epochs: int
    hidden: tuple[int, ...]
    samples: int
    grid: int


FULL = Size("mnist", 20_000, 8, (512, 256), 1000, 15)
SMALL = Size("digits", 2_000, 10, (64,), 200, 9)


@dataclass(frozen=True)
class Morph:
    """What moving single coordinates does to the codes of images of one class.

    Args:
        origin: the code where the change is clearest, `[D]`.
        dim: the coordinate that makes it.
        score: the smaller of the reader's probabilities for the two classes, each at its end.
        images: along that coordinate, `[STEPS, C, H, W]`.
        changed: how many codes have some coordinate that makes it.
        tried: how many codes there were.
        read: how many of their reconstructions are read as the class they are of.
    """

    origin: Tensor
    dim: int
    score: float
    images: Tensor
    changed: int
    tried: int
    read: int


def subset(data: lb.Data, rows: int) -> lb.Data:
    """Return data with the first `rows` training images alone."""
    return replace(data, train=data.train.take(min(rows, len(data.train))))


def share(story: Story, name: str, hits: Tensor, what: str) -> tuple[float, float]:
    """Keep the share of hits `[N]` bool and its standard error, and return both."""
    value = float(hits.float().mean())
    se = sqrt(value * (1 - value) / len(hits))
    return story.number(name, value, what), story.number(f"{name}_se", se, f"{what}: standard error")


def tell(story: Story) -> None:
    """Train five models, and look at what they draw with the eyes of a classifier of real images."""
    size = SMALL if story.small else FULL
    data = subset(lb.load_data(size.source), size.rows)
    grey = subset(lb.load_data(size.source, binarize="none"), size.rows)
    judge = reader(data, small=story.small)
    story.number("reader", judge.accuracy, f"the reader's accuracy on {judge.num_test} test images")
    fits = {
        "vae": (lb.recipes.vae(data.spec, latent_dim=20, hidden=size.hidden), data),
        "workshop": (lb.recipes.workshop_vae_2025(grey.spec, hidden=size.hidden[-1]), grey),
        "flat": (lb.recipes.vae(data.spec, latent_dim=2, hidden=size.hidden), data),
        "cvae": (lb.recipes.cvae(data.spec, latent_dim=20, hidden=size.hidden), data),
        "beta": (lb.recipes.beta_vae(data.spec, beta=BETA, latent_dim=20, hidden=size.hidden), data),
    }
    epochs = {name: max(2, size.epochs // 2) if name == "beta" else size.epochs for name in fits}
    runs = {
        name: lb.fit(recipe, rows, epochs=epochs[name], seed=0, progress=False) for name, (recipe, rows) in fits.items()
    }
    story.number("epochs", size.epochs, "epochs of each model but the last")
    story.number("beta_epochs", epochs["beta"], f"epochs with beta = {BETA:.0f}")
    story.number("rows", len(data.train), "training images")
    untrained = fits["vae"][0].build(0)[0]
    _samples(story, size, judge, {"vae": runs["vae"].model, "workshop": runs["workshop"].model}, untrained, data)
    _maps(story, size, judge, runs["flat"].model)
    _paths(story, size, judge, runs["vae"].model, data)
    _one_coordinate(story, judge, runs["workshop"].model, runs["vae"].model, grey, data)
    _on_demand(story, size, judge, runs["cvae"].model, data)
    _no_encoder(story, runs["vae"].model, data)
    collapse = _mean_image(story, runs["beta"], data)
    plain = [e for e in runs["vae"].history if e["split"] == "valid"][-1]["rate"]
    story.number("rate_vae", plain, "the VAE's mean KL to the prior, an image", "nats")
    _each_or_average(story, collapse, plain)


def _samples(
    story: Story, size: Size, judge: Reader, models: dict[str, lb.VAE], untrained: lb.VAE, data: lb.Data
) -> None:
    """Show samples, and count of how many the reader is sure."""
    vae, workshop = models["vae"], models["workshop"]
    count = min(size.samples, len(data.test) // 2)
    real, others = data.test.take(count), data.test.rows(slice(count, 2 * count))
    noise = torch.rand(real.values().shape, generator=torch.Generator().manual_seed(0))
    sets = {
        "real": (real.values(), "test images"),
        "real_binary": (real.matching(vae.spec or data.spec).values(), "test images, pixels drawn as 0 or 1"),
        "vae": (vae.sample(count, seed=1), "VAE, means of p(x|z)"),
        "vae_draw": (vae.sample(count, show="draw", seed=1), "VAE, draws from p(x|z)"),
        "workshop": (workshop.sample(count, seed=1), "the tutorial's VAE, means"),
        "untrained": (untrained.sample(count, seed=1), "untrained VAE, means"),
        "noise": (noise, "pixels at random"),
    }
    story.number("num_samples", count, "images in each set")
    features = judge.features(others.values())
    sure, far = {}, {}
    for name, (images, what) in sets.items():
        sure[name] = share(story, f"sure_{name}", judge.sure(images), f"{what}: reader sure (probability > 0.9)")
        what = f"{what}: Frechet distance to other test images, reader's features"
        far[name] = story.number(f"far_{name}", frechet_distance(judge.features(images), features), what)
    kinds = len(judge.classes(sets["vae"][0]).unique())
    story.number("kinds_vae", kinds, "classes that the reader finds among the VAE's samples")
    _draw_samples(story, {name: images for name, (images, _) in sets.items()})
    worst = min(far["untrained"], far["noise"])
    story.find(
        f"sampling from N(0, I) works: the reader finds all {data.spec.num_classes} classes among the VAE's samples, "
        f"and their Frechet distance to test images is {far['vae']:.3g}; other test images {far['real']:.3g}, "
        f"the untrained model {far['untrained']:.3g}, random pixels {far['noise']:.3g}",
        f"从 N(0, I) 采样是可行的：判读器在 VAE 的样本中认出了全部 {data.spec.num_classes} 个类别，"
        f"样本到测试图像的 Fréchet 距离为 {far['vae']:.3g}；另一半测试图像为 {far['real']:.3g}，"
        f"未训练的模型为 {far['untrained']:.3g}，随机像素为 {far['noise']:.3g}",
        holds=far["vae"] < 0.5 * worst and kinds == data.spec.num_classes,
    )
    fooled = max(sure[name][0] for name in ("untrained", "noise"))
    story.find(
        f"that the reader is sure proves nothing by itself: it is sure of {sure['vae'][0]:.0%} of the VAE's samples "
        f"and of {sure['real'][0]:.0%} of test images, but also of {sure['untrained'][0]:.0%} of what the untrained "
        f"model draws and of {sure['noise'][0]:.0%} of images of random pixels",
        f"判读器有把握，本身并不说明什么：它对 VAE 样本的 {sure['vae'][0]:.0%}、"
        f"测试图像的 {sure['real'][0]:.0%} 有把握，"
        f"但对未训练模型所画图像的 {sure['untrained'][0]:.0%}、随机像素图像的 {sure['noise'][0]:.0%} 也有把握",
        holds=fooled > 0.1,
    )


def _draw_samples(story: Story, sets: dict[str, Tensor]) -> None:
    titles = {
        "real": "test images",
        "vae": "VAE: mean of p(x|z)",
        "vae_draw": "VAE: draw from p(x|z)",
        "workshop": "tutorial's VAE: mean",
    }
    figure, axes = figures.new_figure(7.0, 2.1, columns=len(titles))
    for place, (name, title) in zip(axes[0], titles.items(), strict=True):
        figures.show_images(place, sets[name][:36], columns=6, title=title)
    story.draw("samples", figure)


def _maps(story: Story, size: Size, judge: Reader, model: lb.VAE) -> None:
    """Decode two grids of codes of a model with two latent dimensions."""
    steps, prior = size.grid, prior_of(model, None)
    linear = manifold(prior.mean, even(prior, steps, 3.0), (0, 1))
    equal = manifold(prior.mean, quantiles(prior, shares(steps, 1 - 1 / steps)), (0, 1))
    grids = {"linear, -3 to 3": model.decode(linear), "inverse CDF: equal parts of the prior": model.decode(equal)}
    story.draw("manifold", figures.learned_manifold(grids, steps=steps))
    story.number("far_prior", exp(-2), "probability of the prior beyond 2 standard deviations from 0")
    for name, codes in (("linear", linear), ("cdf", equal)):
        beyond = float((codes.norm(dim=1) > 2).float().mean())
        story.number(f"beyond_{name}", beyond, f"{name} grid: share of the images there")
    for name, images in zip(("linear", "cdf"), grids.values(), strict=True):
        read = judge.classes(images)
        story.number(f"grid_kinds_{name}", len(read.unique()), f"{name} grid: classes that the reader finds")
        story.number(
            f"grid_sure_{name}", float(judge.sure(images).float().mean()), f"{name} grid: share the reader is sure of"
        )


def _paths(story: Story, size: Size, judge: Reader, model: lb.VAE, data: lb.Data) -> None:
    """Go from one code to another on a line and on an arc."""
    rows = data.test.matching(model.spec or data.spec).take(size.samples)
    codes = encode_rows(model, rows).mean
    labels = rows.y
    assert labels is not None, "the digits have labels"
    other = int((labels != labels[0]).nonzero()[0, 0])
    kinds = {"linear": False, "spherical": True}
    paths = {name: model.decode(interpolate(codes[0], codes[other], 10, slerp=arc)) for name, arc in kinds.items()}
    story.draw("paths", figures.interpolations(paths))
    half = len(codes) // 2
    lengths, sure = {}, {}
    for name, arc in kinds.items():
        middles = torch.stack([interpolate(a, b, 3, slerp=arc)[1] for a, b in zip(codes, codes[half:], strict=False)])
        lengths[name] = float(middles.norm(dim=1).mean())
        sure[name] = judge.sure(model.decode(middles)).float()
        story.number(f"length_{name}", lengths[name], f"{name}: mean length of the code midway")
        story.number(
            f"midway_{name}", float(sure[name].mean()), f"{name}: share of images midway the reader is sure of"
        )
    story.number("length_ends", float(codes.norm(dim=1).mean()), "mean length of the codes themselves")
    apart = sure["spherical"] - sure["linear"]
    gain = story.number("midway_gain", float(apart.mean()), "spherical less linear, same pairs")
    se = story.number("midway_gain_se", float(apart.std()) / sqrt(len(apart)), "its standard error")
    story.number("pairs", len(apart), "pairs of test codes")
    story.find(
        f"midway the straight line passes nearer to 0 than the arc does: length {lengths['linear']:.2f} against "
        f"{lengths['spherical']:.2f}; the share of images the reader is sure of differs by {gain:+.3f} +- {se:.3f}",
        f"在中点处，直线比弧线更靠近原点：长度 {lengths['linear']:.2f} 对 {lengths['spherical']:.2f}；"
        f"判读器有把握的图像所占比例相差 {gain:+.3f} ± {se:.3f}",
        holds=lengths["linear"] < 0.9 * lengths["spherical"],
    )


def morph(model: lb.VAE, judge: Reader, rows: lb.Dataset) -> Morph:
    """Move each coordinate of each row's code over its prior, and look where a FROM becomes a TO.

    A code counts if its reconstruction is read as FROM, and along one coordinate one end is read as FROM, the other
    as TO.
    """
    codes = encode_rows(model, rows.matching(model.spec or rows.spec)).mean
    prior, size = prior_of(model, None), codes.shape[1]
    is_from = judge.classes(model.decode(codes)) == FROM
    far = quantiles(prior, shares(2, REACH))
    ends = torch.stack([traversal(code, far, tuple(range(size))) for code in codes])
    probabilities = judge.probabilities(model.decode(ends.flatten(0, 1))).reshape(len(codes), size, 2, -1)
    read = probabilities.argmax(-1)
    low, high = read[..., 0], read[..., 1]
    turns = ((low == FROM) & (high == TO)) | ((low == TO) & (high == FROM))
    changed = turns.any(1) & is_from
    scores = torch.stack([
        torch.minimum(probabilities[..., a, FROM], probabilities[..., b, TO]) for a, b in ((0, 1), (1, 0))
    ]).amax(0)  # fmt: skip
    best = int((scores * is_from[:, None]).argmax())
    row, dim = divmod(best, size)
    path = traversal(codes[row], quantiles(prior, shares(STEPS, REACH)), (dim,))
    score = float(scores[row, dim])
    return Morph(codes[row], dim, score, model.decode(path), int(changed.sum()), len(codes), int(is_from.sum()))


def _one_coordinate(story: Story, judge: Reader, workshop: lb.VAE, vae: lb.VAE, grey: lb.Data, data: lb.Data) -> None:
    """Look for the coordinate that turns an 8 into a 3, in two models, and show the clearest one."""
    found, models = {}, {"workshop": (workshop, grey), "vae": (vae, data)}
    for name, (model, rows) in models.items():
        assert rows.test.y is not None, "the digits have labels"
        eights = rows.test.rows((rows.test.y == FROM).nonzero()[:EIGHTS, 0])
        found[name] = m = morph(model, judge, eights)
        story.number(f"tried_{name}", m.tried, f"{name}: test images of an 8, the first ones")
        story.number(f"read_{name}", m.read, f"{name}: of these, reconstructions that are read as an 8")
        story.number(f"changed_{name}", m.changed, f"{name}: of these, codes with a coordinate from 8 to 3")
        story.number(f"score_{name}", m.score, f"{name}: the clearest one: smaller probability of the two ends")
        story.number(f"dim_{name}", m.dim, f"{name}: its coordinate")
    best = max(found, key=lambda name: found[name].score)
    m, (model, rows) = found[best], models[best]
    _draw_morph(story, judge, m, {"workshop": "the tutorial's VAE", "vae": "VAE"}[best])
    used = most_used(encode_rows(model, rows.valid.take(1000).matching(model.spec or rows.spec)), 8)
    dims = tuple(sorted({m.dim, *[d for d in used if d != m.dim][:7]}))
    levels = shares(STEPS, REACH)
    pictures = model.decode(traversal(m.origin, quantiles(prior_of(model, None), levels), dims))
    story.draw("traversals", figures.traversals(pictures, dims=dims, probabilities=levels.tolist()))
    other, plain = found["vae"], found["workshop"]
    story.find(
        f"one coordinate can turn an 8 into a 3, as the seed shows: for {other.changed} of {other.tried} eights in the "
        f"VAE with {len(other.origin)} dimensions, for {plain.changed} of {plain.tried} in the tutorial's model "
        f"as trained here; in the clearest case the reader gives at least {m.score:.2f} to 8 at one end and to 3 at "
        "the other",
        f"只移动一个分量，确实可以让 8 变成 3，与种子文章展示的一样：在 {len(other.origin)} 维的 VAE 中，"
        f"{other.tried} 个 8 里有 {other.changed} 个如此，在这里训练的教程模型中，"
        f"{plain.tried} 个里有 {plain.changed} 个；在最清楚的一例中，"
        f"判读器在一端判为 8、在另一端判为 3 的概率都不低于 {m.score:.2f}",
        holds=m.changed > 0 and m.score > 0.5,
    )


def _draw_morph(story: Story, judge: Reader, m: Morph, model: str) -> None:
    levels = shares(STEPS, REACH)
    figure, axes = figures.new_figure(7.0, 3.2, rows=2, height_ratios=(1, 2))
    heads = [f"{100 * p:.3g}%" for p in levels.tolist()]
    title = f"{model}: z{m.dim} at quantiles of its prior, all else fixed; mean of p(x|z)"
    figures.show_images(axes[0, 0], m.images, columns=STEPS, heads=heads, title=title)
    below, probabilities = axes[1, 0], judge.probabilities(m.images)
    rest = 1 - probabilities[:, FROM] - probabilities[:, TO]
    lines = ((str(FROM), probabilities[:, FROM], "-"), (str(TO), probabilities[:, TO], "--"), ("another", rest, ":"))
    for color, (name, values, dash) in zip(figures.PALETTE, lines, strict=False):
        below.plot(levels, values, dash, color=color, marker="o", markersize=3, label=name)
    step = float(levels[1] - levels[0])
    sides = (float(levels[0]) - step / 2, float(levels[-1]) + step / 2)  # each point below its image
    below.set(xlabel="quantile of the prior", ylabel="reader's probability", xlim=sides, ylim=(-0.03, 1.03))
    names = [f"reads {name}" for name, _, _ in lines]
    figure.legend(below.lines, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    story.draw("morph", figure)


def _on_demand(story: Story, size: Size, judge: Reader, model: lb.VAE, data: lb.Data) -> None:
    """Ask the conditional model for each class."""
    kinds = data.spec.num_classes
    asked = torch.arange(kinds).repeat_interleave(size.samples // kinds)
    drawn = model.sample(len(asked), torch.eye(kinds)[asked], seed=2)
    right = judge.classes(drawn) == asked
    value, se = share(story, "asked", right, "conditional samples read as the class asked for (means of p(x|z, y))")
    story.number("num_asked", len(asked), "conditional samples")
    each = right.reshape(kinds, -1).float().mean(1)
    worst = int(each.argmin())
    story.number("worst_class", worst, "the class that is read right least often")
    story.number("worst", float(each[worst]), "how often")
    figure, axes = figures.new_figure(4.6, 4.6)
    rows = drawn.unflatten(0, (kinds, -1))[:, :kinds].flatten(0, 1)
    title = "asked for the class on the left: mean of p(x|z, y)"
    figures.show_images(axes[0, 0], rows, columns=kinds, rows=list(data.spec.classes), title=title)
    story.draw("on_demand", figure)
    chance = 1 / kinds
    story.find(
        f"digits on demand: {value:.1%} +- {se:.1%} of the conditional samples are read as the class asked for; chance "
        f"is {chance:.0%}, real test images {judge.accuracy:.1%}",
        f"可以指定要画的数字：条件样本中有 {value:.1%} ± {se:.1%} 被判读为所要求的类别；"
        f"随机猜测为 {chance:.0%}，真实测试图像为 {judge.accuracy:.1%}",
        holds=value - 4 * se > chance and value > 0.8 * judge.accuracy,
    )


def _no_encoder(story: Story, model: lb.VAE, data: lb.Data) -> None:
    """Scramble the encoder, then the decoder, and see what changes."""
    images = data.test.matching(model.spec or data.spec).take(64).values()
    drawn, rebuilt = model.sample(64, seed=3), model.reconstruct(images)
    changes, moved = {}, 0.0
    for part in ("encoder", "decoder"):
        other = deepcopy(model)
        with torch.no_grad():
            for p in getattr(other, part).parameters():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        changes[part] = float((other.sample(64, seed=3) - drawn).abs().max())
        if part == "encoder":
            moved = float((other.reconstruct(images) - rebuilt).abs().max())
    story.number("change_encoder", changes["encoder"], "encoder scrambled: largest change of a pixel of a sample")
    story.number("change_reconstruct", moved, "encoder scrambled: largest change of a pixel of a reconstruction")
    story.number("change_decoder", changes["decoder"], "decoder scrambled: largest change of a pixel of a sample")
    story.find(
        f"to generate, the posterior is not asked: with all encoder weights scrambled no pixel of a sample changes "
        f"(largest change {changes['encoder']:g}), while reconstructions change by up to {moved:.2f} and a scrambled "
        f"decoder changes samples by up to {changes['decoder']:.2f}",
        f"生成时并不用到后验：把编码器的全部权重打乱，样本的任何像素都不变（最大变化 {changes['encoder']:g}），"
        f"而重构最多变化 {moved:.2f}；打乱解码器，样本最多变化 {changes['decoder']:.2f}",
        holds=changes["encoder"] == 0 and moved > 0.1 and changes["decoder"] > 0.1,
    )


def _mean_image(story: Story, run: lb.Run, data: lb.Data) -> tuple[float, float, float]:
    """Return rate in nats, and how far reconstructions and data are from the mean image (squared, an image)."""
    rows = data.test.matching(run.model.spec or data.spec).take(1000)
    mean = data.train.values().mean(0)
    rebuilt = run.model.reconstruct(rows.values())
    near = float((rebuilt - mean).square().flatten(1).sum(1).mean())
    spread = float((data.test.take(1000).values() - mean).square().flatten(1).sum(1).mean())
    rate = float(lb.score(run.model, rows, num_samples=1).rate.mean())
    story.number("beta_rate", rate, f"beta = {BETA:.0f}: mean KL, an image", "nats")
    story.number("beta_near", near, f"beta = {BETA:.0f}: squared distance of a reconstruction to the mean image")
    story.number("beta_spread", spread, "squared distance of a test image to the mean image")
    story.number("beta_ratio", near / spread, "the one as a share of the other")
    figure, axes = figures.new_figure(7.0, 2.0)
    shown = torch.cat([data.test.take(10).values(), rebuilt[:10], mean.expand(10, *mean.shape)])
    title = f"beta = {BETA:.0f}: each q(z|x) is nearly N(0, I)"
    names = ("original", "mean of p(x|z)", "mean image")
    figures.show_images(axes[0, 0], shown, columns=10, rows=names, title=title)
    story.draw("collapse", figure)
    return rate, near, spread


def ppca(x: np.ndarray, dims: int) -> dict[str, float]:
    """Return what the exact posteriors of probabilistic PCA average to, at its maximum likelihood.

    Tipping & Bishop 1999, J. Royal Statistical Society B 61; x `[N, D]` has mean 0. The posterior of a row is
    N(M^-1 W'x, s2 M^-1) with M = W'W + s2 I, and its KL to N(0, I) has a closed form.
    """
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    values, vectors = values[::-1], vectors[:, ::-1]
    s2 = values[dims:].mean()
    w = vectors[:, :dims] * np.sqrt(values[:dims] - s2)
    inverse = np.linalg.inv(w.T @ w + s2 * np.eye(dims))
    means, covariance = x @ w @ inverse, s2 * inverse
    kl = 0.5 * (np.trace(covariance) + (means**2).sum(1) - dims - np.linalg.slogdet(covariance)[1])
    aggregate = means.T @ means / len(x) + covariance
    return {
        "mean": float(np.abs(means.mean(0)).max()),
        "covariance": float(np.abs(aggregate - np.eye(dims)).max()),
        "rate": float(kl.mean()),
        "information": float(0.5 * np.log(values[:dims] / s2).sum()),
    }


def _each_or_average(story: Story, collapse: tuple[float, float, float], plain: float) -> None:
    """Give the verdicts on "each q(z|x) near N(0, I)" and on "z cannot be normal"."""
    x = np.asarray(load_breast_cancer(return_X_y=True)[0], dtype=float)
    x = (x - x.mean(0)) / x.std(0)
    found = ppca(x, PCA_DIMS)
    story.number("ppca_mean", found["mean"], "pPCA: largest mean of the aggregate posterior")
    story.number("ppca_cov", found["covariance"], "pPCA: largest deviation of its covariance from I")
    story.number("ppca_rate", found["rate"], "pPCA: mean KL of a row", "nats")
    story.number("ppca_information", found["information"], "pPCA: I(x; z) under the model", "nats")
    story.number("ppca_ceiling", log(len(x)), f"log {len(x)}: the most that {len(x)} rows can share with z", "nats")
    rate, near, spread = collapse
    exact = found["mean"] < 1e-9 and found["covariance"] < 1e-9 and found["rate"] > 1
    gone = rate < 0.1 and near < 0.02 * spread
    story.claim(
        "C1",
        "corrected" if exact and gone and plain > 1 else "open",
        f"If each q(z|x) is N(0, I), nothing is encoded: with beta = {BETA:.0f} the KL is {rate:.1e} nats and "
        f"reconstructions stay within {near / spread:.2%} of the data's squared distance from the mean image. Only the "
        f"average must match: at the pPCA optimum (breast_cancer, q = {PCA_DIMS}) it has mean 0 and covariance I to "
        f"{max(found['mean'], found['covariance']):.0e} while the mean KL is {found['rate']:.1f} nats.",
        f"如果每个 q(z|x) 都是 N(0, I)，就什么也没有编码：beta = {BETA:.0f} 时 KL 为 {rate:.1e} nats，"
        f"重构到平均图像的平方距离只有数据的 {near / spread:.2%}。需要匹配的只是平均：在 pPCA 的最优解处"
        f"（breast_cancer，q = {PCA_DIMS}），聚合后验的均值为 0、协方差为 I"
        f"（误差 {max(found['mean'], found['covariance']):.0e}），而平均 KL 为 {found['rate']:.1f} nats。",
    )
    same = abs(found["rate"] - found["information"]) < 1e-9
    story.claim(
        "C2",
        "corrected" if exact and same else "open",
        f"Confuses q(z|x) with q(z). In probabilistic PCA z is exactly N(0, I) and still tells "
        f"{found['information']:.1f} nats about x: each q(z|x) is narrow, their average is the prior.",
        f"混淆了 q(z|x) 与 q(z)。在概率 PCA 中，z 恰好服从 N(0, I)，"
        f"却仍携带关于 x 的 {found['information']:.1f} nats 信息：每个 q(z|x) 都很窄，它们的平均才是先验。",
    )
