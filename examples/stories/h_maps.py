"""Any distribution from a normal through a map: a ring by formula, a ring, moons and eight Gaussians by learning."""

from collections.abc import Callable
from itertools import combinations
from math import exp, log, pi
from typing import Any

import torch
from story import Story
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation.two_samples import classifier_two_sample, mmd_test
from lowerbound.explore import figures

BATCH = 256
MOON_NOISE, MOON_ANGLES = 0.05, 1000
ANGLES = torch.arange(8, dtype=torch.float64) * pi / 4
CENTRES, SPREAD = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1), 0.2  # the eight normals
FAR = 3.0  # sd from every centre; discs of 4 sd around neighbours, 1.53 apart, would overlap and leave no gap
SAMPLES, DRAWS = 500, 100_000
SMALL_SAMPLES, SMALL_DRAWS = 50, 20_000
SETS = {"ring": "the ring", "moons": "the moons", "8gaussians": "the eight Gaussians"}
KEYS = {"ring": "ring", "moons": "moons", "8gaussians": "eight"}


def to_ring(z: Tensor) -> Tensor:
    """Return g(z) = z/10 + z/|z| of rows `[N, 2]` (Doersch 2016, arXiv 1606.05908, fig. 2)."""
    return z / 10 + z / z.norm(dim=-1, keepdim=True)


def ring_log_density(x: Tensor) -> Tensor:
    """Return log p(x) of g(z), z ~ N(0, I), in nats.

    With r = |z| and rho = |g(z)| = 1 + r/10, g stretches by 1/10 along the radius and by rho/r across it, so
    p(x) = N(z; 0, I) / |J| = exp(-r^2/2) / (2 pi) * 10 r / rho, and 0 inside the unit circle.
    """
    rho = x.double().norm(dim=-1)
    r = 10 * (rho - 1)
    inside = -r.square() / 2 + (10 * r.clamp_min(1e-300) / rho).log() - log(2 * pi)
    return torch.where(r > 0, inside, -torch.inf)


def moons_log_density(x: Tensor) -> Tensor:
    """Return log p(x) of two half circles with normal noise, in nats, by quadrature over the angle."""
    t = (torch.arange(MOON_ANGLES, dtype=torch.float64) + 0.5) * pi / MOON_ANGLES
    outer, inner = torch.stack([t.cos(), t.sin()], 1), torch.stack([1 - t.cos(), 0.5 - t.sin()], 1)
    return torch.cat([_mixture(rows, torch.cat([outer, inner]), MOON_NOISE) for rows in x.split(1000)])


def eight_log_density(x: Tensor) -> Tensor:
    """Return log p(x) of the mixture of eight normals, in nats."""
    return _mixture(x, CENTRES, SPREAD)


def _mixture(x: Tensor, centres: Tensor, scale: float) -> Tensor:
    squares = torch.cdist(x.double(), centres, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.logsumexp(-squares / (2 * scale**2), 1) - log(2 * pi * scale**2 * len(centres))


TRUTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "ring": ring_log_density,
    "moons": moons_log_density,
    "8gaussians": eight_log_density,
}


def quadrature(name: str, steps: int) -> tuple[Tensor, Tensor]:
    """Return points `[M, 2]` that cover a distribution, and their areas `[M]`, for integrals over the plane."""
    if name == "ring":  # its density has an edge at radius 1: polar cells that begin there
        rho = 1 + (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        angle = torch.arange(16, dtype=torch.float64) * pi / 8
        points = torch.stack([torch.outer(rho, angle.cos()), torch.outer(rho, angle.sin())], 2)
        return points.flatten(0, 1), (rho / steps * pi / 8).repeat_interleave(16)
    low, high = ((-1.4, -0.9), (2.4, 1.4)) if name == "moons" else ((-3.4, -3.4), (3.4, 3.4))
    sides = [
        lo + (torch.arange(steps, dtype=torch.float64) + 0.5) * (hi - lo) / steps
        for lo, hi in zip(low, high, strict=True)
    ]
    area = (high[0] - low[0]) * (high[1] - low[1]) / steps**2
    points = torch.cartesian_prod(*sides)
    return points, points.new_full((len(points),), area)


def tell(story: Story) -> None:
    """Draw the ring by its formula, learn three maps, and measure what a continuous map cannot do."""
    _formula(story)
    epochs, hidden = (5, (64, 64)) if story.small else (100, (128, 128, 128))
    story.number("samples", SMALL_SAMPLES if story.small else SAMPLES, "importance samples a point")
    story.number("epochs", epochs, "epochs")
    story.number("layers", len(hidden), "hidden layers")
    story.number("width", hidden[0], "units in each")
    models = {name: _learn(story, name, epochs, hidden) for name in SETS}
    _maps(story, models)
    _continuity(story, models["8gaussians"])
    _hole(story, models["ring"])


def _formula(story: Story) -> None:
    z = torch.randn(3000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, angle = to_ring(z), torch.atan2(z[:, 1], z[:, 0])
    figure, axes = figures.new_figure(7.0, 3.5, columns=2)
    for place, points, title in zip(axes[0], (z, x), ("z ~ N(0, I)", "g(z) = z/10 + z/|z|"), strict=True):
        place.scatter(*points.T.numpy(), c=angle.numpy(), cmap="twilight_shifted", s=3, linewidths=0)
        reach = 4 if points is z else 1.5
        place.set(title=title, aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    story.draw("formula", figure)
    jacobian: Any = torch.func.vmap(torch.func.jacrev(to_ring))(z)
    normal = -z.square().sum(1) / 2 - log(2 * pi)
    apart = float((ring_log_density(x) - (normal - jacobian.det().abs().log())).abs().max())
    story.number(
        "jacobian", apart, "ring: |log p by the formula - by automatic differentiation|, largest of 3000", "nats"
    )
    for name in SETS:
        points, area = quadrature(name, 4000 if name == "ring" else 120)
        log_p = TRUTHS[name](points)
        mass = log_p.exp() * area
        story.number(
            f"mass_{KEYS[name]}", float((mass.sum() - 1).abs()), f"{name}: |integral of p(x) - 1| by quadrature"
        )
        entropy = -float(torch.where(mass > 0, mass * log_p, 0.0).sum())
        story.number(f"entropy_{KEYS[name]}", entropy, f"{name}: entropy", "nats")
    story.find(
        "the densities that the models are judged by integrate to 1 within 1e-6, and that of the ring is the change of "
        "variables",
        "用来评判模型的三个密度，积分与 1 之差都小于 1e-6；圆环的密度与变量替换公式一致",
        holds=story.numbers["jacobian"] < 1e-6 and max(story.numbers[f"mass_{key}"] for key in KEYS.values()) < 1e-6,
    )


def _learn(story: Story, name: str, epochs: int, hidden: tuple[int, ...]) -> lb.VAE:
    data, key = lb.load_data(name), KEYS[name]
    if name == "ring":  # as many for the others
        story.number("rows", len(data.train), "training points")
        story.number("held_out", len(data.test), "test points")
    steps = epochs * -(-len(data.train) // BATCH)
    recipe = lb.recipes.gaussian_vae(data.spec, latent_dim=2, hidden=hidden, warmup=steps // 4)
    model = lb.fit(recipe, data, epochs=epochs, batch_size=BATCH, lr=3e-3, seed=0, progress=False).model
    scores = lb.score(model, data.test, num_samples=SMALL_SAMPLES if story.small else SAMPLES)
    rows = data.test.values()
    truth = TRUTHS[name](rows)
    normal = _fitted_normal(data.train.values(), rows)
    story.number(f"truth_{key}", float(-truth.mean()), f"{name}: -log p(x) of the truth on the test points", "nats")
    story.number(f"elbo_{key}", float(-(scores.distortion + scores.rate).mean()), f"{name}: ELBO", "nats")
    story.number(f"nll_{key}", float(-scores.log_px.mean()), f"{name}: NLL", "nats")
    gap = truth - scores.log_px
    story.number(f"gap_{key}", float(gap.mean()), f"{name}: NLL above the truth", "nats")
    story.number(f"gap_se_{key}", float(gap.std()) / len(gap) ** 0.5, f"{name}: its standard error", "nats")
    story.number(f"normal_{key}", float((truth - normal).mean()), f"{name}: the same for one fitted normal", "nats")
    compared = 400 if story.small else len(rows)
    shown, draws = rows[:compared], model.sample(compared, show="draw", seed=1)
    told_apart = classifier_two_sample(shown, draws)
    story.number(f"c2st_{key}", told_apart.accuracy, f"{name}: accuracy of a classifier, draws against test points")
    story.number(f"c2st_se_{key}", told_apart.se, f"{name}: its standard error")
    story.number(f"mmd_p_{key}", mmd_test(shown, draws).p_value, f"{name}: p-value of the MMD")
    return model


def _fitted_normal(train: Tensor, rows: Tensor) -> Tensor:
    """Return log p(rows) in nats under the normal with the training rows' mean and covariance."""
    train = train.double()
    fitted = torch.distributions.MultivariateNormal(train.mean(0), train.T.cov(correction=0))
    return fitted.log_prob(rows.double())


def _maps(story: Story, models: dict[str, lb.VAE]) -> None:
    figure, axes = figures.new_figure(
        7.0, 6.0, rows=3, columns=3, sharex="row", sharey="row", height_ratios=(2, 1.2, 2)
    )
    for i, (name, model) in enumerate(models.items()):
        rows = lb.load_data(name).test.values()
        for place, points in zip(axes[i], (rows, model.sample(len(rows), show="draw", seed=1)), strict=False):
            place.scatter(*points.T.numpy(), s=2, color=figures.PALETTE[0], linewidths=0)
        _grid_image(axes[i, 2], model)
        axes[i, 0].set_ylabel(name)
        for place in axes[i]:
            place.set_aspect("equal")
    for place, title in zip(axes[0], ("test points", "draws from p(x|z)", "image of a grid of z"), strict=True):
        place.set_title(title)
    story.draw("maps", figure)
    gaps = {key: story.numbers[f"gap_{key}"] for key in KEYS.values()}
    normals = {key: story.numbers[f"normal_{key}"] for key in KEYS.values()}
    said = ", ".join(f"{gap:.2f} ({normals[key]:.2f})" for key, gap in gaps.items())
    story.find(
        f"a learned map takes the normal most of the way: NLL above the truth, and that of one fitted normal in "
        f"brackets, for ring, moons and eight Gaussians: {said} nats",
        f"学到的映射把正态分布带到了离真实分布不远处：圆环、双月、八个高斯的 NLL 比真值高出 {said} nats"
        f"（括号内是拟合的单个正态分布）",
        holds=all(gap < normals[key] / 2 for key, gap in gaps.items()),
    )
    short = [gap / story.numbers[f"gap_se_{key}"] for key, gap in gaps.items()]
    worst = story.number("gap_in_se", min(short), "the smallest of the three gaps in its standard errors")
    story.find(
        f"none of the three reaches the truth: the smallest gap is {worst:.0f} standard errors",
        f"三个模型都没有达到真值：最小的差距也有 {worst:.0f} 个标准误",
        holds=worst > 3,
    )


def _grid_image(place: Any, model: lb.VAE) -> None:
    """Draw where the decoder's mean takes the lines of a grid over 2.4 standard deviations of the prior."""
    along, fixed = torch.linspace(-2.4, 2.4, 400), torch.linspace(-2.4, 2.4, 17)
    for dim in (0, 1):
        for at in fixed:
            z = torch.stack([along, at.expand(400)], 1)
            image = model.decode(z if dim == 0 else z.flip(1))
            place.plot(*image.T.numpy(), color=figures.PALETTE[dim], linewidth=0.5)


def _between(points: Tensor) -> Tensor:
    """Return True for points farther than FAR sd from every centre of the eight normals, `[N]`."""
    return torch.cdist(points.double(), CENTRES).min(1).values > FAR * SPREAD


def _continuity(story: Story, model: lb.VAE) -> None:
    count = SMALL_DRAWS if story.small else DRAWS
    z = torch.randn(count, 2, generator=torch.Generator().manual_seed(2))
    means, draws = model.decode(z), model.decode(z, show="draw", seed=3)
    _cut(story, z[:6000], means[:6000])
    story.number("expected", exp(-(FAR**2) / 2), f"share of the truth farther than {FAR:g} sd from its own centre")
    rows = lb.load_data("8gaussians").split("all").values()
    shares = {}
    for name, points in {"data": rows, "means": means, "draws": draws}.items():
        shares[name] = story.number(
            f"between_{name}", float(_between(points).double().mean()), f"share between: {name}"
        )
    error = (shares["means"] * (1 - shares["means"]) / count) ** 0.5
    story.number("between_se", error, "standard error of that of the means")
    story.find(
        f"a continuous D has to cross the gaps: {100 * shares['means']:.1f} % of the means D(z) and "
        f"{100 * shares['draws']:.1f} % of the draws lie farther than {FAR:g} sd from every centre, of the data "
        f"{100 * shares['data']:.1f} %",
        f"连续的 D 必须穿过间隙：均值 D(z) 有 {100 * shares['means']:.1f}%、样本有 {100 * shares['draws']:.1f}% "
        f"离所有中心都超过 {FAR:g} 个标准差，数据只有 {100 * shares['data']:.1f}%",
        holds=shares["means"] > story.numbers["expected"] + 3 * error,
    )
    crossed, pairs = _paths(model)
    story.number("paths", crossed, "straight paths between two clusters' codes whose image leaves all discs")
    story.number("pairs", pairs, "pairs of clusters whose codes decode into their discs")
    story.find(
        f"{crossed} of {pairs} straight paths between the codes of two clusters pass through a gap",
        f"两个簇的编码之间的直线路径，{pairs} 条中有 {crossed} 条穿过间隙",
        holds=crossed == pairs == 28,
    )


def _paths(model: lb.VAE) -> tuple[int, int]:
    """Return how many straight paths between codes of two centres are decoded into a gap, and how many paths count."""
    codes = model.encode(CENTRES.float())
    hit = (model.decode(codes).double() - CENTRES).norm(dim=1) < FAR * SPREAD
    pairs = [(a, b) for a, b in combinations(range(8), 2) if hit[a] and hit[b]]
    t = torch.linspace(0, 1, 1001)[:, None]
    return sum(bool(_between(model.decode((1 - t) * codes[a] + t * codes[b])).any()) for a, b in pairs), len(pairs)


def _cut(story: Story, z: Tensor, means: Tensor) -> None:
    """Draw which part of the plane of z goes to which cluster, and what lands between."""
    between, nearest = _between(means), torch.cdist(means.double(), CENTRES).argmin(1)
    colors = ["black" if out else figures.CLASSES[k] for out, k in zip(between.tolist(), nearest.tolist(), strict=True)]
    figure, axes = figures.new_figure(7.0, 3.6, columns=2)
    for place, points, title in zip(
        axes[0], (z, means), ("z ~ N(0, I)", "D(z); black: outside all discs of 3 sd"), strict=True
    ):
        place.scatter(*points.T.numpy(), c=colors, s=3, linewidths=0)
        reach = 4 if points is z else 3.2
        place.set(title=title, aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    turn = torch.linspace(0, 2 * pi, 100, dtype=torch.float64)
    for centre in CENTRES:
        circle = centre + FAR * SPREAD * torch.stack([turn.cos(), turn.sin()], 1)
        axes[0, 1].plot(*circle.T.numpy(), color="grey", linewidth=0.8)
    story.draw("cut", figure)


def _hole(story: Story, model: lb.VAE) -> None:
    count = SMALL_DRAWS if story.small else DRAWS
    z = torch.randn(count, 2, generator=torch.Generator().manual_seed(4))
    for key, points in {"means": model.decode(z), "draws": model.decode(z, show="draw", seed=5)}.items():
        inside = float((points.norm(dim=1) < 1).double().mean())
        story.number(f"hole_{key}", inside, f"ring: share of {key} inside the unit circle (truth: 0)")
