"""An autoencoder reconstructs, and decodes noise from random codes: its holes and neighbours, and a VAE's, measured."""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from reader import Reader, reader
from story import Story, Verdict
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation.codes import (
    hole_distance,
    hole_rate,
    holes,
    nearest_distance,
    neighbour_purity,
    stretch,
)
from lowerbound.evaluation.two_samples import frechet_distance
from lowerbound.explore import figures
from lowerbound.explore.latents import encode_rows

LATENT_DIM = 8
SEEDS = (0, 1, 2)
STUDENT = 2.78  # two-sided 95% point of Student's t with 4 degrees of freedom: two means of three seeds each
DRAWS, DECODES, ROWS = 2000, 1000, 3000
CHOSEN = {  # where the draws come from, by the end of the numbers' names
    "ae_prior": "AE, z ~ N(0, I)",
    "ae_diagonal": "AE, normal fitted to the codes, diagonal",
    "ae_full": "AE, normal fitted to the codes, full covariance",
    "vae_prior": "VAE, z ~ N(0, I)",
    "vae_full": "VAE, normal fitted to the codes, full covariance",
}
WHAT = {
    "latent": "holes among the draws",
    "image": "image holes",
    "sure": "decodes the reader is sure of",
    "fd": "Frechet distance of the decodes",
}


@dataclass(frozen=True)
class Means:
    """Mean and standard deviation of a number over the training seeds."""

    mean: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} (sd {self.sd:.2f})"


def over_seeds(values: list[float]) -> Means:
    """Return mean and standard deviation of one number a seed."""
    return Means(float(torch.tensor(values).mean()), float(torch.tensor(values).std()))


def above(a: Means, b: Means) -> bool:
    """Return whether a is larger than b by more than chance among three seeds each explains."""
    return a.mean - b.mean > STUDENT * sqrt((a.sd**2 + b.sd**2) / len(SEEDS))


def first_rows(data: lb.Data, rows: int) -> lb.Data:
    """Return the data with the first `rows` training rows alone."""
    return replace(data, train=data.train.take(min(rows, len(data.train))))


def drawn_codes(model: lb.VAE, rows: lb.Dataset, seed: int) -> Tensor:
    """Return a draw from q(z|x) of each row, `[N, D]`: what the decoder learned from. Of an autoencoder the code."""
    codes = encode_rows(model, rows)
    noise = torch.randn(codes.mean.shape, generator=torch.Generator().manual_seed(seed))
    return codes.mean + codes.scale * noise


def normal_draws(num: int, dims: int, seed: int) -> Tensor:
    """Return draws from N(0, I), `[num, dims]`."""
    return torch.randn(num, dims, generator=torch.Generator().manual_seed(seed))


def fitted_normal(codes: Tensor, num: int, seed: int, *, full: bool) -> Tensor:
    """Return draws `[num, D]` from the normal with the mean and the (diagonal of the) covariance of the codes."""
    noise = normal_draws(num, codes.shape[1], seed).double()
    z, mean = codes.double(), codes.double().mean(0)
    if not full:
        return (mean + noise * z.std(0)).float()
    values, vectors = torch.linalg.eigh(z.T.cov())  # a code that never varies has eigenvalue 0, which Cholesky refuses
    return (mean + (noise * values.clamp_min(0).sqrt()) @ vectors.T).float()


def decoded(model: lb.VAE, codes: Tensor) -> Tensor:
    """Return the means of p(x|z) as images with values in [0, 1]."""
    return model.decode(codes).clamp(0, 1)


@dataclass(frozen=True)
class Bench:
    """What the models of all seeds are measured on.

    Args:
        data: training rows (which the codes are of), validation rows (for the radius of holes), test rows.
        reader: reads digits.
        image_reach: the distance that all but 1 % of validation images keep to the nearest training image.
    """

    data: lb.Data
    reader: Reader
    image_reach: float

    def image_holes(self, images: Tensor) -> float:
        """Return the share of images that are farther from every training image than 99 % of validation images."""
        near = nearest_distance(images, self.data.train.values())
        return float((near > self.image_reach).double().mean())

    def frechet(self, images: Tensor) -> float:
        """Return the Frechet distance of images to the test images, on the reader's features."""
        return frechet_distance(self.reader.features(images), self.reader.features(self.data.test.values()))


def tell(story: Story) -> None:
    """Train an autoencoder and a VAE with one network three times each, and measure both."""
    data = first_rows(lb.load_data("digits" if story.small else "mnist", binarize="none"), 10_000)
    hidden, epochs = ((64,), 4) if story.small else ((256, 128), 8)
    valid, test = data.valid.take(min(ROWS, len(data.valid))), data.test.take(min(ROWS, len(data.test)))
    data = replace(data, valid=valid, test=test)
    reach = float(hole_distance(data.train.values(), valid.values()))
    bench = Bench(data, reader(data, small=story.small), reach)
    options = {"latent_dim": LATENT_DIM, "hidden": hidden}
    recipes = {"ae": lb.recipes.ae(data.spec, **options), "vae": lb.recipes.vae(data.spec, **options)}
    models = {
        kind: [lb.fit(recipe, data, epochs=epochs, seed=seed, progress=False).model for seed in SEEDS]
        for kind, recipe in recipes.items()
    }
    story.number("latent_dim", LATENT_DIM, "latent dimensions")
    story.number("seeds", len(SEEDS), "training seeds")
    story.number("epochs", epochs, "epochs")
    story.number("decodes", DECODES, "decodes of each kind")
    _baselines(story, bench)
    _reconstruct(story, bench, models)
    _random(story, bench, models)
    _neighbours(story, bench, models)
    flat = {"latent_dim": 2, "hidden": hidden}
    maps = {"ae": lb.recipes.ae(data.spec, **flat), "vae": lb.recipes.vae(data.spec, **flat)}
    _map(story, bench, {k: lb.fit(r, data, epochs=epochs, seed=0, progress=False).model for k, r in maps.items()})


def _keep(story: Story, name: str, values: list[float], what: str, unit: str = "") -> Means:
    found = over_seeds(values)
    story.number(name, found.mean, f"{what}, mean of {len(SEEDS)} seeds", unit)
    story.number(f"{name}_sd", found.sd, f"{what}, sd over the seeds", unit)
    return found


def _baselines(story: Story, bench: Bench) -> None:
    """Measure the images themselves: what a code has to be compared with."""
    test = bench.data.test
    images = test.values()
    assert test.y is not None, "the digits have labels"
    story.number("train_rows", len(bench.data.train), "training images")
    story.number(
        "purity_pixels", float(neighbour_purity(images, test.y).mean()), "label purity of neighbours among the pixels"
    )
    story.number("stretch_pixels", float(stretch(images, images).mean()), "stretch of the pixels themselves")
    story.number("image_real", bench.image_holes(images), "image holes among real test images")
    story.number(
        "sure_real", float(bench.reader.sure(images).double().mean()), "real test images the reader is sure of"
    )
    story.number("reader", bench.reader.accuracy, "accuracy of the reader")
    real = bench.frechet(bench.data.train.values(slice(DECODES)))
    story.number("fd_real", real, "Frechet distance of training to test images")


def _reconstruct(story: Story, bench: Bench, models: dict[str, list[lb.VAE]]) -> None:
    """Compare squared error and distortion on test images, and draw some."""
    test = bench.data.test
    images = test.values()
    errors = {}
    for kind, trained in models.items():
        made = [model.reconstruct(images) for model in trained]
        squared = [float((m - images).square().mean()) for m in made]
        errors[kind] = _keep(story, f"mse_{kind}", squared, f"{kind}: mean squared error a pixel")
        distortions = [lb.evaluate(model, test, num_samples=1).distortion.value for model in trained]
        known = [d for d in distortions if d is not None]
        _keep(story, f"distortion_{kind}", known, f"{kind}: distortion", "nats")
        near = [bench.image_holes(m.clamp(0, 1)[:DECODES]) for m in made]
        _keep(story, f"image_{kind}_rebuilt", near, f"{kind}: image holes among reconstructions")
    shown = images[:10]
    rows = [shown, *(trained[0].reconstruct(shown).clamp(0, 1) for trained in models.values())]
    figure, axes = figures.new_figure(7.0, 2.4)
    figures.show_images(axes[0, 0], torch.cat(rows), columns=10, rows=("test image", "autoencoder", "VAE"))
    story.draw("reconstructions", figure)
    better = above(errors["vae"], errors["ae"])
    story.find(
        f"the autoencoder reconstructs better: squared error a pixel {errors['ae'].mean:.4f} against "
        f"{errors['vae'].mean:.4f}",
        f"自编码器的重构更好：每个像素的平方误差 {errors['ae'].mean:.4f}，VAE 为 {errors['vae'].mean:.4f}",
        holds=better,
    )


def _choices(models: dict[str, lb.VAE], data: lb.Data, seed: int) -> dict[str, tuple[lb.VAE, Tensor, Tensor, Tensor]]:
    """Return for each kind of draw the model, its codes of training and validation rows, and the draws."""
    made = {}
    for kind, model in models.items():
        codes, held_out = drawn_codes(model, data.train, seed), drawn_codes(model, data.valid, seed + 100)
        dims = codes.shape[1]
        made[f"{kind}_prior"] = (model, codes, held_out, normal_draws(DRAWS, dims, seed))
        made[f"{kind}_full"] = (model, codes, held_out, fitted_normal(codes, DRAWS, seed, full=True))
        if kind == "ae":
            made["ae_diagonal"] = (model, codes, held_out, fitted_normal(codes, DRAWS, seed, full=False))
    return made


def _random(story: Story, bench: Bench, models: dict[str, list[lb.VAE]]) -> None:
    """Count holes among random codes and among what is decoded from them."""
    rates: dict[str, dict[str, list[float]]] = {name: {of: [] for of in WHAT} for name in CHOSEN}
    pictures = {}
    for seed in SEEDS:
        chosen = _choices({kind: trained[seed] for kind, trained in models.items()}, bench.data, seed)
        for name, (model, codes, held_out, draws) in chosen.items():
            images = decoded(model, draws[:DECODES])
            rates[name]["latent"].append(hole_rate(draws, codes, held_out))
            rates[name]["image"].append(bench.image_holes(images))
            rates[name]["sure"].append(float(bench.reader.sure(images).double().mean()))
            rates[name]["fd"].append(bench.frechet(images))
            pictures.setdefault(name, images[:25])
    found = {
        name: {of: _keep(story, f"{of}_{name}", rates[name][of], f"{text}: {said}") for of, said in WHAT.items()}
        for name, text in CHOSEN.items()
    }
    figure, axes = figures.new_figure(7.0, 2.9, columns=3)
    titles = {"ae_prior": "AE, N(0, I)", "ae_full": "AE, fitted normal", "vae_prior": "VAE, N(0, I)"}
    for place, (name, title) in zip(axes[0], titles.items(), strict=True):
        figures.show_images(place, pictures[name], columns=5, title=title)
    story.draw("samples", figure)
    _say_of_draws(story, found)


def _say_of_draws(story: Story, found: dict[str, dict[str, Means]]) -> None:
    ae, full, vae = found["ae_prior"], found["ae_full"], found["vae_prior"]
    noise = above(ae["image"], vae["image"]) and ae["image"].mean > 0.5
    story.find(
        f"a random decode of the autoencoder is noise: for z ~ N(0, I), {100 * ae['image'].mean:.0f} % of its decodes "
        "are farther from every training image than 99 % of real images are; of the VAE's "
        f"{100 * vae['image'].mean:.0f} %",
        f"自编码器的随机解码是噪声：取 z ~ N(0, I)，{100 * ae['image'].mean:.0f} % 的解码结果离每一张训练图都比 99 % "
        f"的真实图像更远；VAE 为 {100 * vae['image'].mean:.0f} %",
        holds=noise,
    )
    story.find(
        "random decodes of the autoencoder are less like digits than the VAE's: Frechet distance to test images "
        f"{ae['fd']} against {vae['fd']}; a normal fitted to the codes brings the autoencoder to {full['fd']}",
        f"自编码器的随机解码不如 VAE 的样本像数字：到测试图的 Fréchet 距离为 {ae['fd']}，VAE 为 {vae['fd']}；改用拟合"
        f"编码的正态分布，自编码器为 {full['fd']}",
        holds=above(ae["fd"], vae["fd"]) and above(ae["fd"], full["fd"]),
    )
    story.find(
        f"the VAE's prior draws better than the autoencoder with the normal fitted to its codes: {vae['fd']} against "
        f"{full['fd']}",
        f"VAE 的先验比配上拟合正态分布的自编码器画得更好：Fréchet 距离 {vae['fd']} 对 {full['fd']}",
        holds=above(full["fd"], vae["fd"]),
    )
    story.find(
        f"draws from N(0, I) fall into holes more often in the autoencoder, {ae['latent']}, than in the VAE, "
        f"{vae['latent']}",
        f"从 N(0, I) 采样，自编码器更容易落入空洞：{ae['latent']}，VAE 为 {vae['latent']}",
        holds=above(ae["latent"], vae["latent"]),
    )
    story.find(
        f"a normal with the full covariance of the codes leads the autoencoder into fewer holes: {full['latent']}, "
        f"against {ae['latent']} for N(0, I)",
        f"按编码的完整协方差拟合一个正态分布，自编码器落入空洞的比例更低：{full['latent']}，而 N(0, I) 为 "
        f"{ae['latent']}",
        holds=above(ae["latent"], full["latent"]),
    )
    story.find(
        f"the VAE's prior still leads into fewer holes than that fitted normal: {vae['latent']} against "
        f"{full['latent']}",
        f"即便如此，VAE 的先验落入空洞仍比这个拟合的正态分布少：{vae['latent']} 对 {full['latent']}",
        holds=above(full["latent"], vae["latent"]),
    )
    story.find(
        f"the VAE has no holes: of draws from its prior {100 * vae['latent'].mean:.0f} % are farther from every code "
        "than 99 % of held-out codes are (1 % would be none)",
        f"VAE 没有空洞：从先验采样，{100 * vae['latent'].mean:.0f} % 离每个训练编码都比 99 % 的留出编码更远（没有空洞"
        "时应为 1 %）",
        holds=vae["latent"].mean < 0.02,
    )


def _neighbours(story: Story, bench: Bench, models: dict[str, list[lb.VAE]]) -> None:
    """Compare the neighbours of codes: do they share a label, and are similar inputs near each other?"""
    test = bench.data.test
    images = test.values()
    assert test.y is not None, "the digits have labels"
    found: dict[str, dict[str, Means]] = {}
    for kind, trained in models.items():
        codes = [encode_rows(model, test).mean for model in trained]
        _keep(story, f"spread_{kind}", [float(z.std(0).mean()) for z in codes], f"{kind}: sd of the codes, a dimension")
        purity = [float(neighbour_purity(z, test.y).mean()) for z in codes]
        apart = [float(stretch(images, z).mean()) for z in codes]
        found[kind] = {
            "purity": _keep(story, f"purity_{kind}", purity, f"{kind}: label purity of the 10 nearest codes"),
            "stretch": _keep(story, f"stretch_{kind}", apart, f"{kind}: stretch"),
        }
    verdict, pixels = _far_or_near(found, story.numbers["stretch_pixels"]), story.numbers["stretch_pixels"]
    ae, vae = found["ae"], found["vae"]
    story.claim(
        "C17",
        verdict,
        f"Codes of the most similar images lie apart by a share of the distance between strangers: {ae['stretch']} in "
        f"the autoencoder, {vae['stretch']} in the VAE, {pixels:.2f} in the pixels themselves. Of the 10 nearest "
        f"codes a share of {ae['purity']} has the same label in the autoencoder, {vae['purity']} in the VAE. Holes: "
        f"{story.numbers['latent_ae_prior']:.2f} against {story.numbers['latent_vae_prior']:.2f} of the draws from "
        "N(0, I).",
        f"最相似的图像，其编码之间的距离与任意两个编码的平均距离之比：自编码器 {ae['stretch']}，VAE {vae['stretch']}，"
        f"像素本身 {pixels:.2f}。最近的 10 个编码中标签相同的比例：自编码器 {ae['purity']}，VAE {vae['purity']}。空"
        f"洞：N(0, I) 的样本中分别占 {story.numbers['latent_ae_prior']:.2f} 和 "
        f"{story.numbers['latent_vae_prior']:.2f}。",
    )


def _far_or_near(found: dict[str, dict[str, Means]], pixels: float) -> Verdict:
    """Return "corrected" if the autoencoder too brings similar inputs nearer than they were as pixels."""
    ae, vae = found["ae"]["stretch"], found["vae"]["stretch"]
    here = Means(pixels, 0.0)
    if above(here, ae):
        return "corrected"
    return "confirmed" if above(ae, here) and above(ae, vae) else "open"


def _map(story: Story, bench: Bench, models: dict[str, lb.VAE]) -> None:
    """Draw codes and random draws of models with two dimensions, where every hole can be seen."""
    chosen = _choices(models, bench.data, 0)
    names = {"ae_prior": "AE, N(0, I)", "ae_full": "AE, fitted normal", "vae_prior": "VAE, N(0, I)"}
    decodes, maps = {}, {}
    for name, title in names.items():
        model, codes, held_out, draws = chosen[name]
        empty = holes(draws, codes, held_out)
        story.number(
            f"flat_{name}", float(empty.double().mean()), f"two dimensions, {CHOSEN[name]}: holes among the draws"
        )
        decodes[title] = decoded(model, draws[:32])
        maps[title] = (codes[:1500], draws[:300], empty[:300])
    story.draw("maps", figures.ae_beside_vae(decodes, maps))
