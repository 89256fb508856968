"""A decoder from pure noise: random pairs give the mean image; an MMD, a critic or an encoder give digits."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from reader import Reader, reader
from story import Story
from torch import Tensor, nn
from torch.nn.functional import softplus

import lowerbound as lb
from lowerbound.core.noise import Stream, generator, seeded
from lowerbound.evaluation.two_samples import WIDTHS, classifier_two_sample, frechet_distance, mmd_test
from lowerbound.explore import figures

WAYS = ("pairs", "mmd", "critic", "encoder")
NAMES = {"pairs": "random pairs", "mmd": "MMD", "critic": "critic (GAN)", "encoder": "encoder (VAE)"}
LATENT_DIM = 20
LEVEL = 0.01  # a test that says "different" below this errs once in a hundred times on equal distributions


@dataclass(frozen=True)
class Size:
    """How much is trained and measured.

    Args:
        source: the data.
        rows: training images used, the first ones.
        hidden: widths of the encoder's hidden layers; the decoder has them reversed.
        batch: images in one step of every way.
        epochs: passes through the training images, the same for every way.
        looks: how often the samples are looked at in training.
        judged: samples, and test images, that are compared.
        seeds: of each way but the first.
    """

    source: str
    rows: int
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    looks: int
    judged: int
    seeds: int


FULL = Size("mnist", 10_000, (256, 128), 100, 20, 10, 2000, 3)
SMALL = Size("digits", 2_000, (64,), 128, 8, 4, 80, 2)
Step = Callable[[Tensor, Tensor], None]


Draw = Callable[[Tensor], Tensor]


@dataclass
class Look:
    """The Frechet distance of samples to test images, on the reader's features, after every few epochs.

    Args:
        judge: whose features are compared.
        codes: that are drawn, the same ones each time.
        target: features of test images.
        every: epochs from one look to the next.
        far: (epoch, distance) of each look.
        seconds: how long the looking took.
    """

    judge: Reader
    codes: Tensor
    target: Tensor
    every: int
    far: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def __call__(self, draw: Draw, epoch: int) -> None:
        """Look at what is drawn, if it is time."""
        if epoch % self.every == 0:
            started = time.perf_counter()
            with torch.no_grad():
                self.far.append((epoch, frechet_distance(self.judge.features(draw(self.codes)), self.target)))
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class Result:
    """What one way came to with one seed: its samples at the codes that are judged, its way there, its seconds."""

    images: Tensor
    far: list[tuple[float, float]]
    seconds: float


class Decoder:
    """The network that every way trains: D(z) is the mean of p(x|z), from the VAE's decoder with the same weights."""

    def __init__(self, recipe: lb.Recipe, data: lb.Data, seed: int) -> None:
        model, _ = recipe.build(seed)
        images = data.train.values()
        model.decoder.start_at(images.mean(0), images.var(0))
        self.parts = model.decoder

    def __call__(self, z: Tensor) -> Tensor:
        """Return images `[N, C, H, W]` of codes `[N, LATENT_DIM]`."""
        return self.parts(z).mean

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is trained."""
        return self.parts.parameters()


def pairs(decoder: Decoder) -> Step:
    """Minimise |D(z) - x|^2 for a z and an x that have nothing to do with each other."""
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)

    def step(x: Tensor, z: Tensor) -> None:
        loss = (decoder(z) - x).square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def mean_discrepancy(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Return the unbiased MMD^2 of two batches `[N, D]` with a gradient; `two_samples.mmd` on floats of its own."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        return torch.stack([torch.exp(squares / (-2 * (width * bandwidth) ** 2)) for width in WIDTHS]).sum(0)

    n, m = len(x), len(y)
    same_x, same_y = kernel(x, x), kernel(y, y)
    inside = (same_x.sum() - same_x.diagonal().sum()) / (n * (n - 1))
    return inside + (same_y.sum() - same_y.diagonal().sum()) / (m * (m - 1)) - 2 * kernel(x, y).mean()


def moments(decoder: Decoder, bandwidth: float) -> Step:
    """Minimise the MMD of a batch of D(z) and a batch of x (Li et al. 2015; Dziugaite et al. 2015)."""
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)

    def step(x: Tensor, z: Tensor) -> None:
        loss = mean_discrepancy(decoder(z).flatten(1), x.flatten(1), bandwidth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def critic(decoder: Decoder, seed: int, widths: tuple[int, ...], dims: int) -> Step:
    """Train a critic to tell D(z) from x, and D to be taken for x (Goodfellow et al. 2014, non-saturating)."""
    layers, last = [], dims
    with seeded(Stream.WEIGHTS, seed + 1):
        for width in widths:
            layers += [nn.Linear(last, width), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
            last = width
        judge = nn.Sequential(nn.Flatten(), *layers, nn.Linear(last, 1))
    options = {"lr": 2e-4, "betas": (0.5, 0.999)}  # Radford et al. 2016, arXiv 1511.06434, sec. 3
    of_judge = torch.optim.Adam(judge.parameters(), **options)
    of_decoder = torch.optim.Adam(decoder.parameters(), **options)

    def step(x: Tensor, z: Tensor) -> None:
        made = decoder(z)
        loss = softplus(-judge(x)).mean() + softplus(judge(made.detach())).mean()
        of_judge.zero_grad()
        loss.backward()
        of_judge.step()
        loss = softplus(-judge(made)).mean()
        of_decoder.zero_grad()
        loss.backward()
        of_decoder.step()

    return step


def take_steps(step: Step, draw: Draw, data: lb.Data, size: Size, seed: int, look: Look) -> None:
    """Pass `size.epochs` times through the images: each batch of them with as many new codes."""
    images = data.train.values()
    look(draw, 0)
    for epoch in range(size.epochs):
        with seeded(Stream.TRAINING, seed, epoch):
            for rows in torch.randperm(len(images)).split(size.batch):
                step(images[rows], torch.randn(len(rows), LATENT_DIM))
        look(draw, epoch + 1)


def follow(way: str, recipe: lb.Recipe, data: lb.Data, size: Size, seed: int, look: Look) -> Result:
    """Train the decoder in one way from one seed."""
    started = time.perf_counter()
    if way == "encoder":
        watch = (lambda model, epoch: look(model.decode, epoch),)
        settings = {"epochs": size.epochs, "batch_size": size.batch, "seed": seed, "progress": False}
        draw = lb.fit(recipe, data, watchers=watch, **settings).model.decode
    else:
        draw = Decoder(recipe, data, seed)
        images = data.train.values(slice(1000)).flatten(1)
        bandwidth = float(torch.pdist(images).median())
        step = {
            "pairs": lambda: pairs(draw),
            "mmd": lambda: moments(draw, bandwidth),
            "critic": lambda: critic(draw, seed, size.hidden, data.spec.dims),
        }[way]()
        take_steps(step, draw, data, size, seed, look)
    seconds = time.perf_counter() - started - look.seconds
    with torch.no_grad():
        return Result(draw(look.codes), look.far, seconds)


def tell(story: Story) -> None:
    """Train one decoder in four ways, and compare what they draw with test images."""
    size = SMALL if story.small else FULL
    whole = lb.load_data(size.source)
    few = {"train": whole.train.take(min(size.rows, len(whole.train))), "valid": whole.valid.take(1000)}
    data = replace(whole, **few)
    judge = reader(whole, small=story.small)
    recipe = lb.recipes.vae(data.spec, latent_dim=LATENT_DIM, hidden=size.hidden)
    story.number("rows", len(data.train), "training images")
    story.number("steps", size.epochs * -(-len(data.train) // size.batch), "steps of each way")
    story.number("batch", size.batch, "images in a step")
    story.number("reader", judge.accuracy, f"the reader's accuracy on {judge.num_test} test images")
    half = min(size.judged, len(data.test) // 2)
    order = torch.randperm(len(data.test), generator=generator(Stream.SPLITS, 0))
    real, others = data.test.values(order[:half]), data.test.values(order[half : 2 * half])
    target, codes = judge.features(real), torch.randn(half, LATENT_DIM, generator=generator(Stream.SHOWN, 0))
    results = {}
    for way in WAYS:
        for seed in range(1 if way == "pairs" else size.seeds):
            look = Look(judge, codes, target, max(1, size.epochs // size.looks))
            results[way, seed] = follow(way, recipe, data, size, seed, look)
        story.number(f"seconds_{way}", results[way, 0].seconds, f"{NAMES[way]}: training", "s")
    made = {way: results[way, 0].images for way in WAYS}
    _draw(story, made, real, results)
    _random_pairs(story, made["pairs"], data)
    _ways_out(story, results, frechet_distance(judge.features(others), target))
    _measures(story, judge, {**made, "halves": others}, real)
    _diversity(story, judge, {**made, "halves": others})


def _draw(story: Story, made: dict[str, Tensor], real: Tensor, results: dict[tuple[str, int], Result]) -> None:
    figure, axes = figures.new_figure(7.0, 1.9, columns=len(made) + 1)
    shown = {"test images": real, **{NAMES[way]: images for way, images in made.items()}}
    for place, (name, images) in zip(axes[0], shown.items(), strict=True):
        figures.show_images(place, images[:36], columns=6, title=name)
    story.draw("samples", figure)
    figure, axes = figures.new_figure(7.0, 3.6)
    place = axes[0, 0]
    for i, way in enumerate(WAYS):
        for seed, line in enumerate(_lines(results, way)):
            look = {"color": figures.PALETTE[i], "marker": "os^D"[i], "linestyle": ("-", "--", ":", "-.")[i]}
            name = NAMES[way] if seed == 0 else None  # one entry of the legend for all seeds
            place.plot(*zip(*line, strict=True), markersize=4, linewidth=1.2, label=name, **look)
    place.set(xlabel="epoch", ylabel="Frechet distance to test images", yscale="log")
    handles, names = place.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    story.draw("progress", figure)


def _random_pairs(story: Story, images: Tensor, data: lb.Data) -> None:
    """Compare D(z) after random pairing with the mean image."""
    real = data.train.values()
    mean, spread = real.mean(0), float(real.var(0, correction=0).sum())
    over_z = story.number(
        "pairs_variance", float(images.var(0).sum()) / spread, "random pairs: variance over z / data's"
    )
    off = float((images - mean).square().flatten(1).sum(1).mean()) / spread
    story.number("pairs_distance", off, "random pairs: squared distance of D(z) to the mean image / data's")
    story.find(
        f"with random pairs D(z) becomes the mean image for every z: its variance over z is {over_z:.1e} of the "
        f"data's, its squared distance to the mean image {off:.1e}",
        f"随机配对时，无论 z 是什么，D(z) 都变成平均图像：它对 z 的方差只有数据方差的 {over_z:.1e} 倍，"
        f"到平均图像的平方距离只有数据的 {off:.1e} 倍",
        holds=over_z < 0.05 and off < 0.05,
    )


def _ways_out(story: Story, results: dict[tuple[str, int], Result], floor: float) -> None:
    """Compare the Frechet distances at the end over the seeds."""
    story.number("far_halves", floor, "other test images: Frechet distance to test images, reader's features")
    ends = {way: [r.far[-1][1] for (w, _), r in results.items() if w == way] for way in WAYS}
    for way, values in ends.items():
        story.number(f"far_{way}", sum(values) / len(values), f"{NAMES[way]}: the same, mean of {len(values)} seeds")
        story.number(f"far_{way}_low", min(values), f"{NAMES[way]}: smallest")
        story.number(f"far_{way}_high", max(values), f"{NAMES[way]}: largest")
    mean = {way: sum(values) / len(values) for way, values in ends.items()}
    for way, zh in (("mmd", "MMD"), ("critic", "判别器（GAN）"), ("encoder", "编码器（VAE）")):
        story.find(
            f"{NAMES[way]} is a way out: Frechet distance {min(ends[way]):.3g} to {max(ends[way]):.3g} over "
            f"{len(ends[way])} seeds, against {mean['pairs']:.3g} for random pairs and {floor:.3g} for other test "
            "images",
            f"{zh} 是一条出路：{len(ends[way])} 个种子的 Fréchet 距离为 {min(ends[way]):.3g} 到 {max(ends[way]):.3g}，"
            f"随机配对为 {mean['pairs']:.3g}，另一半测试图像为 {floor:.3g}",
            holds=max(ends[way]) < 0.5 * mean["pairs"],
        )
    for way in WAYS[1:]:
        lines = [[far for _, far in line] for line in _lines(results, way)]
        back = max(later / min(line[: i + 1]) for line in lines for i, later in enumerate(line))
        story.number(f"back_{way}", back, f"{NAMES[way]}: largest distance in training / smallest before it")


def _lines(results: dict[tuple[str, int], Result], way: str) -> list[list[tuple[float, float]]]:
    return [r.far for (w, _), r in results.items() if w == way]


def _measures(story: Story, judge: Reader, sets: dict[str, Tensor], real: Tensor) -> None:
    """Compare each set with test images by three measures that need neither density nor pairs."""
    target, found = judge.features(real), {}
    for name, images in sets.items():
        what, features = NAMES.get(name, "other test images"), judge.features(images)
        kernel = mmd_test(features, target, permutations=200)
        told = classifier_two_sample(features, target)
        pixels = classifier_two_sample(images.flatten(1), real.flatten(1))
        story.number(f"mmd_{name}", kernel.mmd, f"{what}: MMD^2 to test images, reader's features")
        story.number(f"mmd_p_{name}", kernel.p_value, f"{what}: its p-value (200 permutations)")
        story.number(f"told_{name}", told.accuracy, f"{what}: a classifier tells them from test images, features")
        story.number(f"told_se_{name}", told.se, f"{what}: its standard error")
        story.number(f"told_p_{name}", told.p_value, f"{what}: its p-value")
        story.number(f"pixels_{name}", pixels.accuracy, f"{what}: a classifier tells them from test images, pixels")
        story.number(f"pixels_p_{name}", pixels.p_value, f"{what}: its p-value")
        far = frechet_distance(features, target)
        found[name] = (kernel.mmd, far, told.accuracy, min(kernel.p_value, told.p_value, pixels.p_value))
    half, worst = found["halves"], found["pairs"]
    ways = [found[way] for way in WAYS]
    kept = half[3] > LEVEL
    above = all(max(kernel, told) < LEVEL for kernel, told in _p_values(story))
    ordered = all(half[i] < way[i] for way in ways for i in range(3))
    story.claim(
        "C16",
        "corrected" if kept and above and ordered else "open",
        f"They can, without density and without pairs. Two halves of the test images are not told apart (MMD^2 "
        f"{half[0]:.1e}, classifier {half[2]:.1%}, smallest p-value {half[3]:.2f}; Frechet {half[1]:.3g}); "
        f"random pairs have MMD^2 {worst[0]:.2f}, classifier {worst[2]:.1%}, Frechet {worst[1]:.3g}; the VAE "
        f"{ways[3][0]:.3f}, {ways[3][2]:.1%}, {ways[3][1]:.3g}; every set of samples is told apart (p < {LEVEL}).",
        f"可以比较，既不需要密度，也不需要配对。测试图像的两半分不开（MMD^2 {half[0]:.1e}，分类器 {half[2]:.1%}，"
        f"最小的 p 值 {half[3]:.2f}；Fréchet {half[1]:.3g}）；随机配对为 MMD^2 {worst[0]:.2f}、分类器 {worst[2]:.1%}、"
        f"Fréchet {worst[1]:.3g}；VAE 为 {ways[3][0]:.3f}、{ways[3][2]:.1%}、{ways[3][1]:.3g}；"
        f"每一组样本都能与测试图像区分开（p < {LEVEL}）。",
    )


def _p_values(story: Story) -> list[tuple[float, float]]:
    return [(story.numbers[f"mmd_p_{way}"], story.numbers[f"told_p_{way}"]) for way in WAYS]


def _diversity(story: Story, judge: Reader, sets: dict[str, Tensor]) -> None:
    """Count the classes that the reader finds, and of how many images it is sure."""
    for name, images in sets.items():
        what, read = NAMES.get(name, "other test images"), judge.classes(images)
        shares = read.bincount(minlength=judge.probabilities(images[:1]).shape[1]) / len(read)
        entropy = float(torch.special.entr(shares).sum())
        story.number(f"sure_{name}", float(judge.sure(images).float().mean()), f"{what}: reader sure (above 0.9)")
        story.number(f"kinds_{name}", int((shares > 0.01).sum()), f"{what}: classes with more than 1% of the images")
        story.number(f"entropy_{name}", entropy, f"{what}: entropy of the classes read", "nats")
    most = story.numbers["entropy_halves"]
    found = {way: story.numbers[f"entropy_{way}"] for way in WAYS}
    story.find(
        f"MMD and VAE keep the variety: entropy of the classes {found['mmd']:.2f} and {found['encoder']:.2f} nats "
        f"(test images {most:.2f}, random pairs {found['pairs']:.2f})",
        f"MMD 与 VAE 保住了多样性：类别的熵为 {found['mmd']:.2f} 与 {found['encoder']:.2f} nats"
        f"（测试图像 {most:.2f}，随机配对 {found['pairs']:.2f}）",
        holds=min(found["mmd"], found["encoder"]) > 0.9 * most,
    )
    back = {way: story.numbers[f"back_{way}"] for way in WAYS[1:]}
    kinds = int(story.numbers["kinds_critic"])
    story.find(
        f"the critic is the least steady of the three: its distance rose to {back['critic']:.2f} times what it had "
        f"reached (MMD {back['mmd']:.2f}, VAE {back['encoder']:.2f}), and it ends with {kinds} classes and an entropy "
        f"of {found['critic']:.2f} nats",
        f"三者之中判别器最不稳定：它的距离曾回升到已达到的最小值的 {back['critic']:.2f} 倍（MMD {back['mmd']:.2f}，"
        f"VAE {back['encoder']:.2f}），最后剩下 {kinds} 个类别，熵为 {found['critic']:.2f} nats",
        holds=back["critic"] > max(back["mmd"], back["encoder"])
        and found["critic"] < min(found["mmd"], found["encoder"]),
    )
