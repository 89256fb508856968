"""What five widely read introductions to the VAE say, and the verdict of our experiments on each of it.

    python examples/stories/claims.py    writes docs/claims.md and docs/claims.zh-CN.md from docs/stories/*.json

The verdicts and their numbers are those of the stories' last runs; this file holds only what is claimed, and by whom.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent.parent / "docs"
CODE = Path(__file__).parent
SUFFIXES = {"en": ".md", "zh": ".zh-CN.md"}


@dataclass(frozen=True)
class Row:
    """One claim: its id, the seed texts that make it, and what it says in both languages."""

    id: str
    seeds: str
    en: str
    zh: str


CLAIMS = (
    Row(
        "C1",
        "002",
        "If every q(z|x) is pulled to N(0, I), their average over the data is N(0, I) too, so one can sample there.",
        "每个 q(z|x) 都拉向 N(0, I)，则对数据平均后也是 N(0, I)，于是可以放心在那里采样。",
    ),
    Row(
        "C2",
        "002",
        "The codes cannot really be normally distributed: then they would not depend on the input.",
        "编码不可能真的服从正态分布，否则就与输入无关。",
    ),
    Row(
        "C3",
        "002",
        "The loss of a VAE is the squared error plus three times the KL.",
        "VAE 的损失是平方误差加三倍 KL。",
    ),
    Row("C4", "000, 002", "Without the KL term sigma goes to 0.", "去掉 KL 项，sigma 会趋于 0。"),
    Row(
        "C5",
        "000, 002",
        "Once the reconstruction error is below the KL, the noise grows again and the KL falls.",
        "一旦重构误差低于 KL，噪声就会重新变大，KL 随之下降。",
    ),
    Row(
        "C6",
        "002",
        "With mu² and (log sigma²)² in place of the KL, their ratio is hard to choose.",
        "若用 mu² 与 (log sigma²)² 代替 KL，两者的比例很难选。",
    ),
    Row(
        "C7",
        "002",
        "The KL term measures how far the decoder's output is from a standard normal.",
        "KL 项衡量解码器的输出与标准正态的差异。",
    ),
    Row(
        "C8",
        "001",
        "Sampling cannot be differentiated; reparameterising it lowers the variance of the Monte-Carlo estimate.",
        "直接采样不可导；重参数化降低了蒙特卡洛估计的方差。",
    ),
    Row("C9", "000, 001", "log p(x) is a fixed value.", "log p(x) 是一个定值。"),
    Row(
        "C10",
        "001",
        "Clipping the decoder's output to [1e-8, 1 - 1e-8] keeps the logarithm finite.",
        "把解码器输出截断到 [1e-8, 1 - 1e-8]，对数就不会发散。",
    ),
    Row(
        "C11",
        "001",
        "The KL may be computed with log(1e-8 + sigma²).",
        "KL 可以用 log(1e-8 + sigma²) 来计算。",
    ),
    Row(
        "C12",
        "001",
        "The cross-entropy may be taken on grey pixels.",
        "交叉熵可以直接用在灰度像素上。",
    ),
    Row(
        "C13",
        "001",
        "On inputs unlike those of the training, a generative restorer does better than a discriminative one.",
        "遇到训练中没有的输入，生成式的复原模型比判别式的好。",
    ),
    Row(
        "C14",
        "000",
        "The z of the encoder, which matter for x, may be used to approximate p(x).",
        "可以用编码器给出的、与 x 相关的 z 来近似 p(x)。",
    ),
    Row("C15", "000", "q(z|x) = N(mu, sigma² I).", "q(z|x) = N(mu, sigma² I)。"),
    Row(
        "C16",
        "000",
        "Two sets of samples cannot be compared: there is no density and no pairing.",
        "两组样本无法比较：既没有密度，也没有对应关系。",
    ),
    Row(
        "C17",
        "000",
        "An autoencoder may put similar inputs far apart and leaves holes; a VAE puts them near each other.",
        "自编码器可能把相似的输入放得很远，并留下空洞；VAE 把它们放在一起。",
    ),
    Row(
        "C18",
        "004",
        "The Bhattacharyya distance is never infinite; it cannot easily be written as an expectation.",
        "巴氏距离不会无穷大，但不容易写成期望。",
    ),
    Row(
        "C19",
        "004",
        "With the Bhattacharyya distance in place of the KL there is no way on.",
        "若用巴氏距离代替 KL，推导就走不下去。",
    ),
    Row(
        "C20",
        "004",
        "Whichever argument of the KL is held fixed, minimising it makes both as equal as can be.",
        "无论固定 KL 的哪一个变量，最小化的结果都是两者尽可能相等。",
    ),
    Row(
        "C21",
        "004",
        "A uniform prior can make the KL infinite; that is why the prior is a normal.",
        "均匀先验会使 KL 无穷大，所以先验用正态分布。",
    ),
    Row(
        "C22",
        "004",
        "The loss has a floor, minus the mean log of the data's density, which is a constant that exists.",
        "损失有下界：数据密度对数均值的相反数，它是一个存在的常数。",
    ),
    Row("C23", "004", "One sample of z for each x is enough.", "每个 x 只采一个 z 就够了。"),
    Row(
        "C24",
        "004",
        "The total loss is one number that tells how good the generative model is.",
        "总损失是衡量生成模型好坏的单一指标。",
    ),
    Row(
        "C25",
        "003",
        "E log p(x|z) - beta KL is a loss to be minimised.",
        "E log p(x|z) - beta KL 是要最小化的损失。",
    ),
)

SEEDS = {
    "000": (
        "a CSDN article, revised in November 2025, that starts from the autoencoder and derives the bound",
        "CSDN 文章，2025 年 11 月修订，从自编码器讲起并推导下界",
    ),
    "001": (
        "a CSDN article with code in TensorFlow 1 and the example of haze",
        "CSDN 文章，附 TensorFlow 1 代码，以去雾为例",
    ),
    "002": (
        "the notes of a workshop, March 2025, with a small play between encoder and decoder",
        "2025 年 3 月一次 workshop 的教程，有编码器与解码器的“小剧场”",
    ),
    "003": (
        "an overview of generative models and VAEs, from background to code",
        "一篇综述式的讲解，从生成模型的背景讲到代码",
    ),
    "004": (
        "Su Jianlin, 2018, the second of his articles on the VAE, [kexue.fm 5343](https://kexue.fm/archives/5343)",
        "苏剑林 2018 年关于 VAE 的第二篇文章，[kexue.fm 5343](https://kexue.fm/archives/5343)",
    ),
}

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "What the seeds claim",
        "other": "[中文](claims.zh-CN.md)",
        "seeds": "The **seeds** are five widely read Chinese introductions to the variational autoencoder:",
        "how": "Each claim below is one of theirs in our words. Its verdict is computed by the code of a story from "
        "the numbers of its last run: *confirmed* if they bear it out, *corrected* if something else is true, *open* "
        "if they do not decide. [notation.md](notation.md) says how the seeds' symbols map to ours.",
        "count": "Of {all} claims {confirmed} are confirmed, {corrected} corrected and {open} open.",
        "head": "| claim | seed | what is said | verdict | what we measured |",
        "confirmed": "confirmed",
        "corrected": "corrected",
        "open": "open",
        "missing": "open: not measured",
        "colon": ": ",
    },
    "zh": {
        "title": "五篇文章的说法与核对",
        "other": "[English](claims.md)",
        "seeds": "**种子文章**是五篇流传很广的中文变分自编码器入门文章：",
        "how": "下表每一行是其中的一个说法，用我们自己的话转述。结论由相应故事的代码根据最近一次运行的数值算出："
        "数值支持即为*成立*，实际情况不同即为*修正*，数值不足以判定则为*未定*。各文章的符号与本项目符号的对照见 "
        "[notation.zh-CN.md](notation.zh-CN.md)。",
        "count": "共 {all} 个说法：{confirmed} 个成立，{corrected} 个修正，{open} 个未定。",
        "head": "| 编号 | 种子 | 说法 | 结论 | 我们的测量 |",
        "confirmed": "成立",
        "corrected": "修正",
        "open": "未定",
        "missing": "未定：没有测量",
        "colon": "\uff1a",
    },
}


def write_claims(stories: Path, out: Path) -> list[Path]:
    """Write `out/claims.md` and `out/claims.zh-CN.md` from the claims in `stories/*.json`; returns their paths.

    Raises:
        ValueError: if a claim is unknown, or two stories give a verdict on it.
    """
    found = _found(stories)
    written = []
    for language, suffix in SUFFIXES.items():
        written.append(out / f"claims{suffix}")
        written[-1].write_text(_page(found, stories, out, language), encoding="utf-8")
    return written


def _found(stories: Path) -> dict[str, dict[str, Any]]:
    """Return the claims of all stories by their ids, each with the name of its story."""
    known, found = {row.id for row in CLAIMS}, {}
    for path in sorted(stories.glob("*.json")):
        for name, claim in json.loads(path.read_text(encoding="utf-8"))["claims"].items():
            if name not in known or name in found:
                wrong = f"{found[name]['story']} has one too" if name in found else "there is no such claim"
                raise ValueError(f"{path.stem} gives a verdict on {name}: {wrong}")
            found[name] = {**claim, "story": path.stem}
    return found


def _page(found: dict[str, dict[str, Any]], stories: Path, out: Path, language: str) -> str:
    words, place = WORDS[language], 0 if language == "en" else 1
    verdicts = [found[row.id]["verdict"] if row.id in found else "open" for row in CLAIMS]
    counts = {verdict: verdicts.count(verdict) for verdict in ("confirmed", "corrected", "open")}
    lines = [f"# {words['title']}", "", words["other"], "", words["seeds"], ""]
    lines += [f"- **{seed}**{words['colon']}{said[place]}" for seed, said in SEEDS.items()]
    lines += ["", words["how"], "", words["count"].format(all=len(CLAIMS), **counts), "", words["head"]]
    lines += ["|---|---|---|---|---|", *(_line(row, found.get(row.id), stories, out, language) for row in CLAIMS)]
    lines += _pictures({claim["story"] for claim in found.values()}, stories, out)
    return "\n".join(lines) + "\n"


def _line(row: Row, claim: dict[str, Any] | None, stories: Path, out: Path, language: str) -> str:
    words = WORDS[language]
    cells = [row.id, row.seeds, row.zh if language == "zh" else row.en]
    if claim is None:
        cells += [words["missing"], ""]
    else:
        cells += [words[claim["verdict"]], f"{claim[language]} ({_link(claim['story'], stories, out, language)})"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _link(story: str, stories: Path, out: Path, language: str) -> str:
    """Return a link to the story's page, or to its code if it has none."""
    page = stories / f"{story}{SUFFIXES[language]}"
    has_page = (CODE / "pages" / page.name).exists()
    return f"[{story}]({_from(out, page) if has_page else f'../examples/stories/{story}.py'})"


def _pictures(told: set[str], stories: Path, out: Path) -> list[str]:
    """Return the figures of stories that have no page to show them."""
    alone = sorted(story for story in told if not (CODE / "pages" / f"{story}.md").exists())
    paths = [path for story in alone for path in sorted((stories / story).glob("*.png"))]
    return [line for path in paths for line in ("", f"![{path.stem.replace('_', ' ')}]({_from(out, path)})")]


def _from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def main() -> int:
    """Write the table of claims from the stories' last full runs."""
    for path in write_claims(DOCS / "stories", DOCS):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
