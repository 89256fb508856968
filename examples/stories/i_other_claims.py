"""Short experiments on those claims of the seeds that no other story measures."""

from dataclasses import replace
from math import erfc, exp, log, pi, sqrt
from typing import Any

import torch
from story import Story
from torch import Tensor, nn

import lowerbound as lb
from lowerbound.core.errors import Incompatible
from lowerbound.core.objective import first_step
from lowerbound.core.walk import observe
from lowerbound.data.corruptions import Blur, GaussianNoise, Mask, SaltAndPepper
from lowerbound.evaluation.restoration import corrupted, denoised, restoration
from lowerbound.explore import figures

T_95 = 4.303  # Student's t with 2 degrees of freedom: the 95 % interval of a mean over three seeds
LINE = torch.linspace(-12, 12, 48001, dtype=torch.float64)  # for integrals over the real line
STEP = float(LINE[1] - LINE[0])


def tell(story: Story) -> None:
    """Measure the claims one after the other."""
    data = lb.load_data("digits" if story.small else "mnist")
    data = replace(data, train=data.train.take(10_000))
    recipe = lb.recipes.vae(data.spec, latent_dim=10, hidden=(256, 128))
    model = lb.fit(recipe, data, epochs=5, seed=0, progress=False).model
    rows = data.test.matching(recipe.spec).take(200 if story.small else 1000)
    _kl_is_of_the_encoder(story, model, rows)
    _clip(story)
    _added_constant(story)
    _grey(story)
    _restorers(story)
    _isotropic(story, model, rows.take(200))
    _bhattacharyya(story)
    _directions(story)
    _bounded_prior(story)
    _floor(story)
    _mixed_with_noise(story, model, rows)
    _sign(story)


def _kl_is_of_the_encoder(story: Story, model: lb.VAE, rows: lb.Dataset) -> None:
    kl = model(rows.batch(slice(100))).kl.mean()
    decoder, encoder = list(model.decoder.parameters()), list(model.encoder.parameters())
    of_decoder = torch.autograd.grad(kl, decoder, retain_graph=True, allow_unused=True)
    of_encoder = torch.autograd.grad(kl, encoder)
    moved = sum(float(g.abs().sum()) > 0 for g in of_decoder if g is not None)
    story.number("kl_decoder", moved, "decoder tensors with a gradient of the KL other than 0")
    story.number("kl_decoder_all", len(decoder), "decoder tensors")
    norm = sqrt(sum(float(g.square().sum()) for g in of_encoder))
    story.number("kl_encoder", norm, "norm of the KL's gradient in the encoder's weights")
    story.claim(
        "C7",
        "corrected" if moved == 0 and norm > 0 else "open",
        f"It is of the encoder's output: of {len(decoder)} decoder tensors {moved} have a gradient of the KL "
        f"other than 0; in the encoder its norm is {norm:.2g}.",
        f"它衡量的是编码器的输出：解码器的 {len(decoder)} 个参数张量中，KL 梯度不为 0 的有 {moved} 个；"
        f"编码器参数上梯度的范数为 {norm:.2g}。",
    )


def _clip(story: Story) -> None:
    """Do what the seed's code does, in float32, to a pixel that is 0 and whose logit is large."""
    logits = torch.arange(0, 40, 0.25)
    y = logits.sigmoid().clamp(1e-8, 1 - 1e-8)
    clipped = torch.log(1 - y)
    first = story.number(
        "clip_logit", float(logits[clipped == -torch.inf][0]), "smallest of the logits where log(1 - y) is -inf"
    )
    same = torch.tensor(1 - 1e-8, dtype=torch.float32) == 1
    story.number("clip_is_one", float(same), "float32(1 - 1e-8) == 1")
    from_logits = lb.families.Bernoulli((1,))(logits[:, None]).log_prob(torch.zeros(1))
    last = story.number("clip_from_logits", float(from_logits[-1]), "log P(0) from logits at 39.75", "nats")
    story.claim(
        "C10",
        "corrected" if same and torch.isfinite(from_logits).all() else "open",
        f"float32(1 - 1e-8) is 1, so the upper clip does nothing: from a logit of {first:g} on, log(1 - y) is "
        f"minus infinity. From logits it stays finite: {last:.2f} nats at 39.75.",
        f"float32(1 - 1e-8) 等于 1，上端的截断不起作用：logit 达到 {first:g} 后，log(1 - y) 就是负无穷。用 logit "
        f"计算则始终有限：在 39.75 处为 {last:.2f} nats。",
    )


def _added_constant(story: Story) -> None:
    def kl(sigma: float, added: float) -> float:
        return 0.5 * (sigma**2 - log(added + sigma**2) - 1)

    short = {}
    for sigma in (1e-6, 1e-4, 1e-3):
        short[sigma] = kl(sigma, 0.0) - kl(sigma, 1e-8)
        story.number(
            f"short_{sigma:.0e}".replace("-", ""), short[sigma], f"KL too small by, at sigma = {sigma:g}", "nats"
        )
    said = [f"{value:.3g}" for value in short.values()]
    true = story.number("kl_at_1e06", kl(1e-6, 0.0), "KL of one dimension at mu = 0, sigma = 1e-6", "nats")
    story.claim(
        "C11",
        "corrected" if short[1e-6] > 0.1 else "confirmed",
        f"The KL of a dimension comes out too small by {said[0]} nats at sigma = 1e-6 (of {true:.2f}; the smallest "
        f"sigma that the code allows), {said[1]} at 1e-4 and {said[2]} at 1e-3.",
        f"一个维度的 KL 会偏小：sigma = 1e-6（代码允许的最小值，真值 {true:.2f}）时少 {said[0]} nats，"
        f"1e-4 时少 {said[1]}，1e-3 时少 {said[2]}。",
    )


def _grey(story: Story) -> None:
    """Compare the ELBO on grey pixels with its mean over 1000 binarisations, the encoder seeing grey in both."""
    data = lb.load_data("digits")
    model = lb.fit(lb.recipes.mnist_vae_2017(data.spec, latent_dim=4), data, epochs=3, seed=0, progress=False).model
    grey = data.test.matching(lb.recipes.mnist_vae_2017(data.spec).spec).values()[:50]
    with torch.no_grad():
        model.eval()
        torch.manual_seed(0)
        trace = model(lb.Batch(grey))
        on_grey = float((trace.log_px - trace.kl).double().mean())
        binary = lb.families.Bernoulli(data.spec.shape)(trace.px.logits)  # pyright: ignore[reportAttributeAccessIssue]
        each = [(binary.log_prob(torch.bernoulli(grey)) - trace.kl).double().mean() for _ in range(1000)]
    means = torch.stack(each)
    mean, error = float(means.mean()), float(means.std()) / len(means) ** 0.5
    story.number("grey_elbo", on_grey, "ELBO of 50 grey images", "nats")
    story.number("grey_binary", mean, "mean over 1000 binarisations of the ELBO of the 0/1 pixels", "nats")
    story.number("grey_se", error, "its standard error", "nats")
    story.claim(
        "C12",
        "confirmed" if abs(mean - on_grey) < 3 * error else "corrected",
        f"As a bound for 0/1 pixels drawn from the grey ones: {on_grey:.3f} nats on grey pixels, {mean:.3f} +- "
        f"{error:.3f} over 1000 binarisations. It is no density of grey values.",
        f"可以，但它是“按灰度随机二值化后的像素”的下界：灰度上为 {on_grey:.3f} nats，1000 次二值化的平均为 "
        f"{mean:.3f} +- {error:.3f}。它不是灰度值本身的密度。",
    )


def _restorers(story: Story) -> None:
    """Train a VAE and a plain denoiser of one network on noise A; restore A and three others, with three seeds."""
    data = lb.load_data("digits" if story.small else "mnist", binarize="none")
    data = replace(data, train=data.train.take(10_000))
    size, hidden, epochs = (8, (128, 64), 4) if story.small else (20, (256, 128), 6)
    generative = lb.recipes.denoising_vae(data.spec, noise="gaussian", amount=0.5, latent_dim=size, hidden=hidden)
    encoder = lb.networks.MLP(data.spec.shape, (size,), hidden, "silu")
    plain = generative.replace(
        encoder=lb.Encoder([encoder]),
        groups=(lb.groups.Flat(lb.families.Delta((size,)), lb.priors.StandardNormal((size,))),),
        objective=lb.objectives.Corrupt(lb.objectives.Reconstruction(), GaussianNoise(0.5)),
        name="custom",
    )
    tests = {
        "A": GaussianNoise(0.5),
        "mask": Mask(0.5),
        "salt": SaltAndPepper(0.3),
        "blur": Blur(1.0 if story.small else 2.0),
    }
    rows = data.test.take(1000)
    ahead: dict[str, list[float]] = {name: [] for name in tests}
    level: dict[str, list[float]] = {name: [] for name in tests}
    for seed in range(3):
        models = [lb.fit(r, data, epochs=epochs, seed=seed, progress=False).model for r in (generative, plain)]
        for name, noise in tests.items():
            seen = corrupted(rows, noise, seed=seed)
            psnr = [float(restoration(denoised(model, seen), rows.values()).psnr.mean()) for model in models]
            ahead[name].append(psnr[0] - psnr[1])
            level[name].append(psnr[0])
    _restored(story, ahead, level)


def _restored(story: Story, ahead: dict[str, list[float]], level: dict[str, list[float]]) -> None:
    low, high, said = {}, {}, {}
    for name, values in ahead.items():
        spread = torch.tensor(values, dtype=torch.float64)
        half = T_95 * float(spread.std()) / len(values) ** 0.5
        mean = story.number(f"ahead_{name}", float(spread.mean()), f"PSNR of the VAE less the denoiser's, {name}", "dB")
        story.number(f"ahead_ci_{name}", half, "half its 95 % interval over three seeds", "dB")
        story.number(f"psnr_{name}", sum(level[name]) / len(values), f"PSNR of the VAE, {name}", "dB")
        low[name], high[name], said[name] = mean - half, mean + half, f"{mean:+.2f} +- {half:.2f}"
    unseen = [name for name in ahead if name != "A"]
    wins, loses = all(low[name] > 0 for name in unseen), any(high[name] < 0 for name in unseen)
    others = f"{said['mask']} (mask), {said['salt']} (salt and pepper), {said['blur']} (blur)"
    story.claim(
        "C13",
        "confirmed" if wins else "corrected" if loses else "open",
        f"PSNR of a VAE less that of a plain denoiser of the same network, both trained on Gaussian noise, mean and "
        f"95 % interval over three seeds: {said['A']} dB on that noise; on noise not seen in training {others}.",
        f"同一网络、都用高斯噪声训练，VAE 的 PSNR 减去普通去噪网络的 PSNR（三个种子的均值与 95% 区间）：训练用的噪声上 "
        f"{said['A']} dB；没见过的噪声上 {said['mask']}（遮挡）、{said['salt']}（椒盐）、{said['blur']}（模糊）。",
    )


def _isotropic(story: Story, model: lb.VAE, rows: lb.Dataset) -> None:
    """Replace each q by the isotropic one of the same mean and the best sigma, and see what the ELBO loses."""
    batch = rows.batch(slice(None))
    with torch.no_grad():
        model.eval()
        q = model.infer(batch.x)
        mu, sigma = q.mean, q.variance.sqrt()

        def elbo(scale: Tensor, samples: int, seed: int) -> Tensor:
            eps = torch.randn(samples, *mu.shape, generator=torch.Generator().manual_seed(seed))
            log_px = model(batch, samples, observe({0: mu + scale * eps})).log_px.double().mean(0)
            kl = 0.5 * (scale.square() + mu.square() - 1 - scale.square().log()).expand(mu.shape).sum(1)
            return log_px - kl

        candidates = torch.logspace(-2, 0, 25)
        found = torch.stack([elbo(s, 16, 1) for s in candidates])
        best = candidates[found.argmax(0)][:, None]
        lost = elbo(sigma, 64, 2) - elbo(best, 64, 2)  # with fresh noise: the choice above saw other draws
    ratio = float((sigma.max(1).values / sigma.min(1).values).median())
    mean, error = float(lost.mean()), float(lost.std()) / len(lost) ** 0.5
    story.number("sd_ratio", ratio, "median over images of the largest over the smallest sd of q(z|x)")
    story.number("isotropic_loss", mean, "ELBO lost by the best isotropic q of the same mean", "nats")
    story.number("isotropic_se", error, "its standard error", "nats")
    story.claim(
        "C15",
        "corrected" if mean > 3 * error else "open",
        f"Diagonal, not isotropic: in one q(z|x) the largest sd is {ratio:.1f} times the smallest (median), and the "
        f"best isotropic q of the same mean costs {mean:.2f} +- {error:.2f} nats of ELBO.",
        f"是对角的，不是各向同性的：同一个 q(z|x) 中最大的标准差是最小的 {ratio:.1f} 倍（中位数）；换成均值相同的最佳"
        f"各向同性分布，ELBO 会损失 {mean:.2f} +- {error:.2f} nats。",
    )


def _normal(mean: float, scale: float) -> Tensor:
    """Return log N(x; mean, scale^2) on LINE."""
    return -((LINE - mean) / scale).square() / 2 - log(scale * sqrt(2 * pi))


def _bhattacharyya(story: Story) -> None:
    uniform = [((start <= LINE) & (start + 1 >= LINE)).double() for start in (0.0, 2.0)]
    disjoint = story.number(
        "bc_disjoint", float((uniform[0] * uniform[1]).sqrt().sum()) * STEP, "BC of U(0,1) and U(2,3)"
    )
    hellinger = story.number("hellinger", sqrt(1 - disjoint), "their Hellinger distance")
    closed = sqrt(2 * 1.5 / (1 + 1.5**2)) * exp(-1 / (4 * (1 + 1.5**2)))
    log_p, log_q = _normal(0.0, 1.0), _normal(1.0, 1.5)
    integral = story.number(
        "bc_quadrature", float(((log_p + log_q) / 2).exp().sum()) * STEP, "BC of two normals, quadrature"
    )
    x = torch.randn(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratio = (((x.square() - ((x - 1) / 1.5).square()) / 2 - log(1.5)) / 2).exp()  # sqrt(q/p)
    mean, error = float(ratio.mean()), float(ratio.std()) / len(ratio) ** 0.5
    story.number("bc_closed", closed, "the same in closed form")
    story.number("bc_sampled", mean, "mean of sqrt(q/p) over 100,000 draws of p")
    story.number("bc_se", error, "its standard error")
    story.claim(
        "C18",
        "corrected" if disjoint == 0 and abs(integral - closed) < 1e-8 and abs(mean - closed) < 4 * error else "open",
        f"The overlap BC of U(0, 1) and U(2, 3) is {disjoint:g}, so the distance -log BC is infinite; Hellinger's is "
        f"{hellinger:g}. BC is an expectation, E_p[sqrt(q/p)]: of N(0, 1) and N(1, 1.5²) {closed:.5f} in closed form, "
        f"{mean:.5f} +- {error:.5f} by sampling.",
        f"U(0, 1) 与 U(2, 3) 的重叠系数 BC 为 {disjoint:g}，距离 -log BC 是无穷大；Hellinger 距离为 "
        f"{hellinger:g}。BC 本身就是期望 E_p[sqrt(q/p)]：对 N(0, 1) 与 N(1, 1.5²)，闭式为 "
        f"{closed:.5f}，采样得 {mean:.5f} +- {error:.5f}。",
    )


def _fitted(log_p: Tensor, start: tuple[float, float], *, forward: bool) -> tuple[float, float, float]:
    """Return KL, mean and sd of the normal q near `start` (mean, log sd) that minimises KL(p||q), or KL(q||p)."""
    values = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([values], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def divergence() -> Tensor:
        log_q = -((LINE - values[0]) * (-values[1]).exp()).square() / 2 - values[1] - log(2 * pi) / 2
        log_a, log_b = (log_p, log_q) if forward else (log_q, log_p)
        return (log_a.exp() * (log_a - log_b)).sum() * STEP

    def loss() -> Tensor:
        search.zero_grad()
        value = divergence()
        value.backward()
        return value

    search.step(loss)
    mean, log_scale = values.detach().tolist()
    return float(divergence().detach()), mean, exp(log_scale)


def _directions(story: Story) -> None:
    """Fit one normal to two modes by either direction of the KL, from three starts each, and keep the best."""
    log_p = torch.logaddexp(_normal(-2.0, 0.6), _normal(2.0, 0.6)) - log(2)
    starts = ((0.5, 0.0), (1.5, -0.5), (0.0, 0.7))
    fits = {"pq": min(_fitted(log_p, s, forward=True) for s in starts)}
    fits["qp"] = min(_fitted(log_p, s, forward=False) for s in starts)
    normals = {key: _normal(mean, scale) for key, (_, mean, scale) in fits.items()}
    lines = {"p": log_p, "q that minimises KL(p||q)": normals["pq"], "q that minimises KL(q||p)": normals["qp"]}
    keep = slice(12_000, 36_001, 60)
    points = {n: list(zip(LINE[keep].tolist(), v[keep].exp().tolist(), strict=True)) for n, v in lines.items()}
    story.draw("two_modes", figures.curves(points, x="x", y="density", title="One normal for two modes"))
    for key, (value, mean, scale) in fits.items():
        way = "KL(p||q)" if key == "pq" else "KL(q||p)"
        story.number(f"fit_{key}", value, f"least {way} of a normal to two modes", "nats")
        story.number(f"fit_mean_{key}", mean, "its mean")
        story.number(f"fit_sd_{key}", scale, "its standard deviation")
    (_, m1, s1), (_, m2, s2) = fits["pq"], fits["qp"]
    story.claim(
        "C20",
        "corrected" if abs(m1 - m2) > 0.5 or abs(s1 - s2) > 0.5 else "confirmed",
        f"Of a family that does not hold the target the direction matters: one normal fitted to modes at -2 and 2 (sd "
        f"0.6) has mean {abs(m1):.2f} and sd {s1:.2f} by KL(p||q), mean {m2:.2f} and sd {s2:.2f} by KL(q||p).",
        f"分布族不包含目标分布时，方向就有区别：用一个正态分布拟合位于 -2 与 2（标准差 0.6）的两个峰，KL(p||q) "
        f"得到均值 {abs(m1):.2f}、标准差 {s1:.2f}，KL(q||p) 得到均值 {m2:.2f}、标准差 {s2:.2f}。",
    )


class UniformPrior(nn.Module):
    """p(z) = U(0, 1) in each dimension: a prior that ends."""

    support = "unit"

    def forward(self, y: Tensor | None, infer: Any) -> Any:
        """Return the uniform distribution."""
        return torch.distributions.Independent(torch.distributions.Uniform(torch.zeros(2), torch.ones(2)), 1)


def _bounded_prior(story: Story) -> None:
    outside = story.number("outside", erfc(0.5 / 0.1 / sqrt(2)), "mass of N(0.5, 0.1²) outside [0, 1]")
    spec = lb.load_data("digits").spec
    message = ""
    try:
        lb.recipes.vae(spec, latent_dim=2).replace(
            groups=(lb.groups.Flat(lb.families.Normal((2,)), UniformPrior()),),  # pyright: ignore[reportArgumentType]
            name="custom",
        )
    except Incompatible as error:
        message = str(error).split("\n")[0]
    story.number("refused", float(bool(message)), "a uniform prior is refused when the recipe is built")
    story.claim(
        "C21",
        "confirmed" if "infinite" in message and outside > 0 else "open",
        f"Even N(0.5, 0.1²) has {outside:.1g} of its mass outside [0, 1], and there the ratio q/p is infinite. Such a "
        f"recipe is refused when it is built: “{message}”.",
        f"即使 N(0.5, 0.1²) 也有 {outside:.1g} 的质量在 [0, 1] 之外，那里 q/p 无穷大。这样的配方在构建时就被拒绝："
        f"“{message}”。",
    )


def _floor(story: Story) -> None:
    """Compute the entropy of binarised training pixels, and the density of memorised grey ones."""
    grey = lb.load_data("digits" if story.small else "mnist").train.values().flatten(1)
    noise = story.number(
        "pixel_entropy", float(_pixel_entropy(grey)), "H(0/1 pixels given the grey image), mean", "nats"
    )
    ambiguous = story.number(
        "ambiguity", _ambiguity(grey, 100), "H(which image given the 0/1 pixels), mean of 100", "nats"
    )
    floor = story.number(
        "floor", log(len(grey)) + noise - ambiguous, f"floor of the training NLL, {len(grey)} images", "nats"
    )
    falls = {}
    some = grey[:500].double()
    squares = torch.cdist(some, some).square().fill_diagonal_(0)
    for sigma in (1e-1, 1e-2, 1e-3):
        log_p = torch.logsumexp(-squares / (2 * sigma**2), 1) - log(500) - grey.shape[1] / 2 * log(2 * pi * sigma**2)
        falls[sigma] = -float(log_p.mean())
        story.number(
            f"memorised_{sigma:.0e}".replace("-", ""),
            falls[sigma],
            f"-log p of 500 memorised images, sigma {sigma:g}",
            "nats",
        )
    said = ", ".join(f"{value:.0f}" for value in falls.values())
    story.claim(
        "C22",
        "corrected" if falls[1e-1] > falls[1e-2] > falls[1e-3] and falls[1e-3] < 0 else "open",
        f"For 0/1 pixels it is a number: the training NLL of these {len(grey)} images cannot be below "
        f"{floor:.1f} nats on average over binarisations. "
        f"For grey values as a continuous density there is none: -log p of memorised images is {said} at sigma = 0.1, "
        f"0.01 and 0.001.",
        f"对 0/1 像素它是一个数：这 {len(grey)} 张图的训练 NLL（对二值化取平均）不可能低于 {floor:.1f} nats。"
        f"把灰度当作连续密度则没有下界：记住训练图像时，sigma = 0.1、0.01、0.001 处的 -log p 为 {said}。",
    )


def _pixel_entropy(grey: Tensor) -> Tensor:
    return torch.special.entr(grey.double()).add(torch.special.entr(1 - grey.double())).sum(1).mean()


def _ambiguity(grey: Tensor, draws: int) -> float:
    """Return the mean entropy in nats of p(i|x), the image i that 0/1 pixels x were drawn from."""
    source = torch.Generator().manual_seed(0)
    index = torch.randint(len(grey), (draws,), generator=source)
    x = torch.bernoulli(grey[index], generator=source)
    on, off = grey.log().clamp_min(-1e4), (1 - grey).log().clamp_min(-1e4)  # e^-10000 is 0
    share = torch.log_softmax((x @ on.T + (1 - x) @ off.T).double(), 1)
    return float(-(share.exp() * share).sum(1).mean())


def _mixed_with_noise(story: Story, model: lb.VAE, rows: lb.Dataset) -> None:
    """Replace 99 % of a model's samples by fair coins for each pixel (Theis et al. 2016, arXiv 1511.01844)."""
    log_px = lb.score(model, rows, num_samples=50).log_px
    coins = log(0.99) - rows.spec.dims * log(2)
    mixed = torch.logaddexp(log_px - log(100), torch.full_like(log_px, coins))
    nll = story.number("mixed_before", -float(log_px.mean()), "NLL of the model", "nats")
    lost = story.number("mixed_lost", float((log_px - mixed).mean()), "NLL lost with 99 % of the samples noise", "nats")
    story.claim(
        "C24",
        "corrected" if lost <= log(100) + 1e-9 else "open",
        f"Of the likelihood, not of the samples: with 99 % of the samples replaced by coin flips the NLL of {nll:.1f} "
        f"nats rises by {lost:.2f}, at most log 100 = {log(100):.2f} in any number of dimensions.",
        f"它指示的是似然，而不是样本：把 99% 的样本换成抛硬币的噪声，NLL 从 {nll:.1f} nats 只上升 {lost:.2f}，"
        f"无论多少维最多上升 log 100 = {log(100):.2f}。",
    )


def _sign(story: Story) -> None:
    """Take 30 steps down the loss as it is written, and 30 down its negative."""
    data = lb.load_data("digits")
    recipe = lb.recipes.vae(data.spec, latent_dim=4, hidden=(64,))
    train, valid = (part.matching(recipe.spec) for part in (data.train, data.valid))

    def elbo(model: lb.VAE) -> float:
        scores = lb.score(model, valid, num_samples=1)
        return -float((scores.distortion + scores.rate).mean())

    start, ends = elbo(recipe.build(seed=0)[0]), {}
    for name, sign in (("written", -1.0), ("right", 1.0)):
        model, objective = recipe.build(seed=0)
        moves = torch.optim.Adam(model.parameters(), lr=1e-3)
        torch.manual_seed(0)
        for step in range(30):
            rows = torch.arange(step * 40, step * 40 + 40)
            moves.zero_grad()
            (sign * objective(model, train.batch(rows), first_step()).losses["model"]).backward()
            moves.step()
        ends[name] = story.number(f"sign_{name}", elbo(model), f"ELBO after 30 steps, {name} sign", "nats")
    before = story.number("sign_start", start, "ELBO before", "nats")
    story.claim(
        "C25",
        "corrected" if ends["written"] < before < ends["right"] else "open",
        f"That is the ELBO (at beta = 1), to be maximised: 30 steps down it take it from {before:.1f} to "
        f"{ends['written']:.1f} nats, 30 steps down its negative to {ends['right']:.1f}.",
        f"那是（beta = 1 时的）ELBO，应当最大化：朝它减小的方向走 30 步，它从 {before:.1f} 变为 "
        f"{ends['written']:.1f} nats；朝其相反数减小的方向走 30 步，变为 {ends['right']:.1f}。",
    )
