"""MSE or cross-entropy, and how to weigh it against the KL: learn the variance. And: how large may the code be?"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from a_autoencoder import decoded, drawn_codes, first_rows, fitted_normal, normal_draws
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, ScalarFormatter
from reader import Reader, reader
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from story import Story
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation.codes import hole_rate
from lowerbound.evaluation.two_samples import frechet_distance
from lowerbound.explore import figures

TUTORIAL = sqrt(1.5)  # the sd whose ELBO is the tutorial's |x - D(z)|^2 + 3 KL
SIGMAS = {"122": TUTORIAL, "050": 0.5, "020": 0.2, "010": 0.1, "005": 0.05}  # by the end of the numbers' names
BALANCE_DIM = 8
SIZES = (2, 4, 8, 16, 32, 64)
COMPONENTS = 10
ROWS = 3000
KINDS = {
    "ae_prior": "AE, z ~ N(0, I)",
    "ae_normal": "AE, fitted normal",
    "ae_mixture": "AE, fitted mixture",
    "vae_prior": "VAE, z ~ N(0, I)",
    "vae_mixture": "VAE, fitted mixture",
}


@dataclass(frozen=True)
class Bench:
    """What all models of this story share.

    Args:
        data: grey images; training rows, validation rows (for ELBOs and the radius of holes), test rows.
        hidden: widths of the networks.
        epochs: passes through the training rows.
        reader: its features stand in for eyes.
        draws: how many samples are measured.
    """

    data: lb.Data
    hidden: tuple[int, ...]
    epochs: int
    reader: Reader
    draws: int

    def train(self, recipe: lb.Recipe, data: lb.Data | None = None) -> lb.VAE:
        """Return the trained model of a recipe."""
        return lb.fit(recipe, data or self.data, epochs=self.epochs, seed=0, progress=False).model

    def frechet(self, images: Tensor) -> float:
        """Return the Frechet distance of images to the test images, on the reader's features."""
        return frechet_distance(self.reader.features(images), self.reader.features(self.data.test.values()))


@dataclass(frozen=True)
class Balance:
    """What one weight between squared error and KL comes to.

    Args:
        model: the trained model.
        sigma: standard deviation of its likelihood.
        bounds: ELBO of each validation image, `[N]` in nats.
        rate: KL(q(z|x) || p(z)), nats.
        error: squared error of a pixel at a draw of z.
        samples: means of p(x|z) at draws from the prior.
    """

    model: lb.VAE
    sigma: float
    bounds: Tensor
    rate: float
    error: float
    samples: Tensor

    @property
    def elbo(self) -> float:
        """Mean ELBO, nats an image."""
        return float(self.bounds.mean())


def tell(story: Story) -> None:
    """Train a VAE at five fixed variances and a learned one; then autoencoders and VAEs with codes of six sizes."""
    name, rows = ("digits", 600) if story.small else ("mnist", 10_000)
    data = first_rows(lb.load_data(name, binarize="none"), rows)
    data = replace(
        data, valid=data.valid.take(min(ROWS, len(data.valid))), test=data.test.take(min(ROWS, len(data.test)))
    )
    hidden, epochs, draws = ((64,), 3, 400) if story.small else ((128,), 8, 2000)
    bench = Bench(data, hidden, epochs, reader(data, small=story.small), draws)
    story.number("train_rows", len(data.train), "training images")
    story.number("epochs", epochs, "epochs")
    story.number("balance_dim", BALANCE_DIM, "latent dimensions of the first part")
    story.number("draws", draws, "samples of each model")
    story.number("reader", bench.reader.accuracy, "accuracy of the reader")
    story.number(
        "fd_real", bench.frechet(data.train.values(slice(draws))), "Frechet distance of training to test images"
    )
    found = _balance(story, bench)
    samples = {f"sigma {one.sigma:.2f}": one.samples for key, one in found.items() if key != "learned"}
    samples[f"learned, {found['learned'].sigma:.2f}"] = found["learned"].samples
    samples["0/1, cross-entropy"] = _cross_entropy(story, bench, lb.load_data(name))
    samples["test images"] = data.test.values()
    _draw_samples(story, samples)
    _sizes(story, bench)


def _gaussian(bench: Bench, sigma: float | None) -> lb.Recipe:
    """Return the VAE with a Normal likelihood of standard deviation `sigma`, learned if None."""
    options = {"latent_dim": BALANCE_DIM, "hidden": bench.hidden}
    if sigma is None:
        return lb.recipes.gaussian_vae(bench.data.spec, variance="shared", **options)
    return lb.recipes.gaussian_vae(bench.data.spec, variance="fixed", scale=sigma, **options)


def _measured(bench: Bench, sigma: float | None) -> Balance:
    model, valid = bench.train(_gaussian(bench, sigma)), bench.data.valid
    scores = lb.score(model, valid, num_samples=1)
    likelihood = model.decoder.family
    used = float(likelihood(torch.zeros(1, *likelihood.params)).variance.detach().flatten()[0].sqrt())
    # distortion = |x - D(z)|^2 / (2 sigma^2) + dims/2 log(2 pi sigma^2)
    constant = 0.5 * np.log(2 * np.pi * used**2)
    error = float((scores.distortion.mean() / bench.data.spec.dims - constant) * 2 * used**2)
    return Balance(
        model,
        used,
        -(scores.distortion + scores.rate),
        float(scores.rate.mean()),
        error,
        model.sample(bench.draws, seed=0).clamp(0, 1),
    )


def _balance(story: Story, bench: Bench) -> dict[str, Balance]:
    """Train at each variance, and say which has the best ELBO and the best samples."""
    found = {key: _measured(bench, sigma) for key, sigma in SIGMAS.items()}
    learned = found["learned"] = _measured(bench, None)
    for key, one in found.items():
        said = f"sigma {one.sigma:.3g}{' (learned)' if key == 'learned' else ''}"
        story.number(f"sigma_{key}", one.sigma, f"{said}: standard deviation of the likelihood")
        story.number(f"weight_{key}", 2 * one.sigma**2, f"{said}: weight of the KL beside the squared error, 2 sigma^2")
        story.number(f"elbo_{key}", one.elbo, f"{said}: ELBO", "nats")
        story.number(f"rate_{key}", one.rate, f"{said}: rate", "nats")
        story.number(f"error_{key}", one.error, f"{said}: squared error a pixel")
        story.number(f"fd_{key}", bench.frechet(one.samples), f"{said}: Frechet distance of samples")
        story.number(
            f"holes_{key}", _vae_holes(bench.data, one.model, bench.draws), f"{said}: holes among draws from the prior"
        )
    _draw_balance(story, found)
    best = max((key for key in SIGMAS), key=lambda key: found[key].elbo)
    gain = learned.bounds - found[best].bounds
    mean, se = float(gain.mean()), float(gain.std() / sqrt(len(gain)))
    story.number("gain", mean, "ELBO of the learned variance over the best fixed one", "nats")
    story.number("gain_se", se, "its standard error over the images", "nats")
    story.find(
        f"how to balance: learn the variance. It ends at sigma = {learned.sigma:.3f}, a weight of the KL of "
        f"{2 * learned.sigma**2:.3f}, and none of the fixed ones has a higher ELBO: it gains {mean:.1f} +- {se:.1f} "
        f"nats over the best of them ({found[best].sigma:.2g})",
        f"如何平衡：让方差参与学习。最终 sigma = {learned.sigma:.3f}，相当于 KL 的权重为 {2 * learned.sigma**2:.3f}；"
        f"没有哪个固定值的 ELBO 更高：比其中最好的（{found[best].sigma:.2g}）还高 {mean:.1f} +- {se:.1f} nats",
        holds=mean > -2 * se,
    )
    numbers = story.numbers
    closest = min(SIGMAS, key=lambda key: numbers[f"fd_{key}"])
    story.find(
        "the learned variance also gives the samples nearest to real digits: Frechet distance "
        f"{numbers['fd_learned']:.1f}, the best fixed one (sigma {found[closest].sigma:.2g}) "
        f"{numbers[f'fd_{closest}']:.1f}",
        f"学到的方差给出的样本也最接近真实数字：Fréchet 距离 {numbers['fd_learned']:.1f}，固定值中最好的（sigma "
        f"{found[closest].sigma:.2g}）为 {numbers[f'fd_{closest}']:.1f}",
        holds=numbers["fd_learned"] <= numbers[f"fd_{closest}"],
    )
    return found


def _vae_holes(data: lb.Data, model: lb.VAE, draws: int) -> float:
    codes, held_out = drawn_codes(model, data.train, 0), drawn_codes(model, data.valid, 1)
    return hole_rate(normal_draws(draws, codes.shape[1], 2), codes, held_out)


def _draw_balance(story: Story, found: Mapping[str, Balance]) -> None:
    points = sorted((one.sigma, one.elbo) for key, one in found.items() if key != "learned")
    title = "ELBO of validation images against the standard deviation of the likelihood"
    lines = {"sigma is set": points, "sigma is learned": [(found["learned"].sigma, found["learned"].elbo)]}
    figure = figures.curves(lines, x="sigma", y="ELBO, nats", title=title, logx=True, markers=True)
    axes = figure.axes[0]
    axes.lines[1].set(markersize=9, zorder=4)
    axes.xaxis.set_major_locator(FixedLocator([s for s, _ in points]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticklabels([f"{s:.2f}" for s, _ in points])
    story.draw("elbo", figure)


def _cross_entropy(story: Story, bench: Bench, binary: lb.Data) -> Tensor:
    """Train the same network on 0/1 pixels with cross-entropy; returns its samples."""
    data = first_rows(binary, len(bench.data.train))
    data = replace(data, valid=data.valid.take(len(bench.data.valid)))
    model = bench.train(lb.recipes.vae(data.spec, latent_dim=BALANCE_DIM, hidden=bench.hidden), data)
    numbers = lb.evaluate(model, data.valid, num_samples=1)
    elbo, samples = numbers.elbo.value, model.sample(bench.draws, seed=0)
    assert elbo is not None, "the ELBO of 0/1 pixels is finite"
    story.number("elbo_binary", elbo, "cross-entropy of 0/1 pixels: ELBO, of probabilities", "nats")
    story.number("fd_binary", bench.frechet(samples), "cross-entropy: Frechet distance of samples to grey test images")
    story.number(
        "holes_binary", _vae_holes(data, model, bench.draws), "cross-entropy: holes among draws from the prior"
    )
    density = story.numbers["elbo_learned"]
    volume = story.number(
        "volume", bench.data.spec.dims * float(np.log(255)), "what pixels of 0..255 take from a log density", "nats"
    )
    story.find(
        f"MSE or cross-entropy: their nats answer nothing. The Normal's ELBO is {density:.0f} nats, above 0, where no "
        f"log probability can be: a density, {density - volume:.0f} if pixels count 0..255. The {elbo:.0f} nats of "
        "the 0/1 pixels are a log probability of other data",
        f"MSE 还是交叉熵：两者的 nats 不能回答。正态似然的 ELBO 为 {density:.0f} nats，大于 0，概率的对数不可能如此："
        f"它是密度，像素改取 0..255 就成了 {density - volume:.0f}。0/1 像素的 {elbo:.0f} nats 则是另一种数据的概率的对"
        "数",
        holds=density > 0,
    )
    mine, other = story.numbers["fd_learned"], story.numbers["fd_binary"]
    story.find(
        "judged by samples beside grey test images, the learned variance does better than cross-entropy of 0/1 "
        f"pixels: Frechet distance {mine:.1f} against {other:.1f}",
        f"用样本与灰度测试图比较，学习方差好于 0/1 像素的交叉熵：Fréchet 距离 {mine:.1f} 对 {other:.1f}",
        holds=mine < other,
    )
    return samples


def _draw_samples(story: Story, found: Mapping[str, Tensor]) -> None:
    figure, axes = figures.new_figure(7.0, 4.4, rows=2, columns=4)
    places = axes.flatten()
    for place, (title, images) in zip(places, found.items(), strict=False):
        figures.show_images(place, images[:16], columns=4, title=title)
    for place in places[len(found) :]:
        place.set_axis_off()
    story.draw("samples", figure)


@dataclass(frozen=True)
class Sized:
    """What one kind of draws is worth at one latent size.

    Args:
        holes: share of the draws in holes.
        frechet: Frechet distance of what they decode to.
        error: one estimate of its standard error over the draws: half the difference between two halves of them.
        images: the first of them.
    """

    holes: float
    frechet: float
    error: float
    images: Tensor


def _mixture(codes: Tensor, num: int) -> Tensor:
    """Return draws from a Gaussian mixture with full covariances fitted to the codes, shuffled."""
    fitted = GaussianMixture(COMPONENTS, max_iter=30, random_state=0)
    scale = codes.std(0).clamp_min(1e-6)  # the library adds 1e-6 to each variance, whatever the scale of the codes
    with warnings.catch_warnings():  # 30 steps of EM, whether or not more would help
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit((codes / scale).double().numpy())
    drawn = torch.from_numpy(fitted.sample(num)[0]).float()
    return drawn[torch.randperm(num, generator=torch.Generator().manual_seed(0))] * scale


def _at_size(bench: Bench, size: int) -> tuple[dict[str, Sized], dict[str, float], float]:
    """Return what each kind of draws is worth, squared errors of AE and VAE, and the VAE's rate."""
    options = {"latent_dim": size, "hidden": bench.hidden, "variance": "shared"}
    vae = bench.train(lb.recipes.gaussian_vae(bench.data.spec, **options))
    ae = bench.train(lb.recipes.ae(bench.data.spec, latent_dim=size, hidden=bench.hidden))
    codes = {"ae": drawn_codes(ae, bench.data.train, 0), "vae": drawn_codes(vae, bench.data.train, 0)}
    held_out = {"ae": drawn_codes(ae, bench.data.valid, 1), "vae": drawn_codes(vae, bench.data.valid, 1)}
    prior = normal_draws(bench.draws, size, 2)
    draws = {
        "ae_prior": prior,
        "ae_normal": fitted_normal(codes["ae"], bench.draws, 2, full=True),
        "ae_mixture": _mixture(codes["ae"], bench.draws),
        "vae_prior": prior,
        "vae_mixture": _mixture(codes["vae"], bench.draws),
    }
    found = {}
    for kind, z in draws.items():
        name, model = ("ae", ae) if kind.startswith("ae") else ("vae", vae)
        images = decoded(model, z)
        error = abs(bench.frechet(images[::2]) - bench.frechet(images[1::2])) / 2
        found[kind] = Sized(hole_rate(z, codes[name], held_out[name]), bench.frechet(images), error, images[:16])
    real = bench.data.test.values()
    errors = {n: float((m.reconstruct(real) - real).square().mean()) for n, m in (("ae", ae), ("vae", vae))}
    rate = lb.evaluate(vae, bench.data.test, num_samples=1).rate.value
    assert rate is not None, "the rate of normals is finite"
    return found, errors, rate


def _sizes(story: Story, bench: Bench) -> None:
    """Measure draws and reconstructions at each latent size."""
    found, errors, rates = {}, {}, {}
    for size in SIZES:
        found[size], errors[size], rates[size] = _at_size(bench, size)
        for kind, one in found[size].items():
            story.number(f"holes_{kind}_{size}", one.holes, f"{size} dimensions, {KINDS[kind]}: holes among the draws")
            story.number(f"fd_{kind}_{size}", one.frechet, f"{size} dimensions, {KINDS[kind]}: Frechet distance")
        for model, error in errors[size].items():
            story.number(f"mse_{model}_{size}", error, f"{size} dimensions, {model}: squared error a pixel")
        story.number(f"rate_{size}", rates[size], f"{size} dimensions: rate of the VAE", "nats")
    _draw_sizes(story, found, errors)
    _harder(story, found, bench.draws)
    _saturates(story, errors, rates)


def _draw_sizes(story: Story, found: dict[int, dict[str, Sized]], errors: dict[int, dict[str, float]]) -> None:
    figure, grid = figures.new_figure(7.0, 3.4, columns=3)
    holes, frechet, error = grid[0]
    for i, (kind, name) in enumerate(KINDS.items()):
        look = {"color": figures.PALETTE[i], "marker": "osD^v"[i], "markersize": 4, "label": name}
        holes.plot(SIZES, [found[s][kind].holes for s in SIZES], **look)
        frechet.plot(SIZES, [found[s][kind].frechet for s in SIZES], **look)
    for model, i in (("ae", 0), ("vae", 3)):
        error.plot(SIZES, [errors[s][model] for s in SIZES], color=figures.PALETTE[i], marker="o^"[i > 0], markersize=4)
    frechet.set_yscale("log")
    frechet.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    frechet.yaxis.set_major_formatter(ScalarFormatter())
    frechet.yaxis.set_minor_formatter(NullFormatter())
    titles = ("Share of draws in holes", "Frechet distance", "Squared error a pixel")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_xscale("log", base=2)
        axes.set_xticks(SIZES, [str(s) for s in SIZES])
        axes.set_xlabel("latent dimensions")
        axes.set_title(title, loc="left", fontsize=9)
    handles, names = holes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    story.draw("sizes", figure)
    shown, axes = figures.new_figure(7.0, 5.0, rows=len(KINDS), columns=3)
    for row, (kind, name) in zip(axes, KINDS.items(), strict=True):
        for place, size in zip(row, (SIZES[0], 8, SIZES[-1]), strict=True):
            figures.show_images(place, found[size][kind].images, columns=8, title=f"{name}, {size} d.")
    story.draw("size_samples", shown)


def _harder(story: Story, found: dict[int, dict[str, Sized]], draws: int) -> None:
    """Say whether more dimensions are harder to sample, for each kind of draws."""
    few, many = SIZES[0], SIZES[-1]
    relative = [(one.error / one.frechet) ** 2 for kinds in found.values() for one in kinds.values()]
    noise = sqrt(sum(relative) / len(relative))
    story.number("fd_se", 100 * noise, "standard error of a Frechet distance over the draws", "%")
    chinese = {
        "ae_prior": "自编码器，z ~ N(0, I)",
        "ae_normal": "自编码器，拟合的正态分布",
        "ae_mixture": "自编码器，拟合的混合分布",
        "vae_prior": "VAE，z ~ N(0, I)",
        "vae_mixture": "VAE，拟合的混合分布",
    }
    for kind, name in KINDS.items():
        low, high = found[few][kind].holes, found[many][kind].holes
        se = sqrt((low * (1 - low) + high * (1 - high)) / draws)
        best = min(SIZES, key=lambda s, kind=kind: found[s][kind].frechet)
        least, last = found[best][kind].frechet, found[many][kind].frechet
        story.find(
            f"the more dimensions, the harder to sample ({name}): holes {low:.2f} with {few} dimensions, {high:.2f} "
            f"with {many}; Frechet distance at best {least:.1f} with {best}, {last:.1f} with {many}",
            f"隐空间维度越高越难采样（{chinese[kind]}）：{few} 维时空洞 {low:.2f}，{many} 维时 {high:.2f}；Fréchet 距"
            f"离最小为 {least:.1f}（{best} 维），{many} 维时为 {last:.1f}",
            holds=high - low > 2 * se and last - least > 2 * noise * sqrt(last**2 + least**2),
        )
    _ahead(story, found)


def _ahead(story: Story, found: dict[int, dict[str, Sized]]) -> None:
    """Count the sizes at which the VAE draws better than the autoencoder with a mixture."""
    for kind, by, von in (
        ("vae_prior", "from its prior", "从先验"),
        ("vae_mixture", "from a fitted mixture", "从混合分布"),
    ):
        ahead = [s for s in SIZES if found[s][kind].frechet < found[s]["ae_mixture"].frechet]
        which = ", ".join(map(str, ahead)) or "-"
        story.number(f"ahead_{kind}", len(ahead), f"latent sizes at which the VAE, {by}, beats the AE with a mixture")
        story.find(
            f"at every size the VAE, drawn {by}, gives better samples than the autoencoder with a fitted mixture: at "
            f"{len(ahead)} of {len(SIZES)} ({which})",
            f"在每一种维度下，VAE（{von}采样）的样本都好于配上混合分布的自编码器：{len(SIZES)} 种中有 {len(ahead)} 种"
            f"（{which}）",
            holds=len(ahead) == len(SIZES),
        )


def _saturates(story: Story, errors: dict[int, dict[str, float]], rates: dict[int, float]) -> None:
    """Say whether the VAE stops using dimensions while the autoencoder goes on."""
    half, many = SIZES[-2], SIZES[-1]
    more = rates[many] / rates[half] - 1
    story.find(
        f"the VAE takes no more than it needs: from {half} to {many} dimensions its rate changes by {100 * more:+.0f} "
        f"% ({rates[half]:.1f} to {rates[many]:.1f} nats), and its squared error stays at {errors[many]['vae']:.4f} "
        f"(autoencoder {errors[many]['ae']:.4f})",
        f"VAE 只用它需要的维度：从 {half} 维到 {many} 维，KL 变化 {100 * more:+.0f} %（{rates[half]:.1f} 到 "
        f"{rates[many]:.1f} nats），平方误差停在 {errors[many]['vae']:.4f}（自编码器 {errors[many]['ae']:.4f}）",
        holds=abs(more) < 0.05 and errors[many]["ae"] < errors[many]["vae"],
    )
