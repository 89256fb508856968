"""Does z stay in use where the decoder reads what it has written? Words of made-up languages, whose entropy is known.

A word is of one of several languages, which differ in how often they have each syllable; it ends after each syllable
with the same probability. So the probability of every word is known, and the NLL of a model can be held against that
of the grammar itself on the same words: no model is lower by more than chance. A decoder with a state can guess the
language from the first syllables, and so do without z: what keeps z in use is switched on one by one. A row that is
there already is not trained again.

    python benchmarks/sequences.py [--words 8000] [--epochs 20] [--only plain]
"""

import argparse
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import page
import torch

import lowerbound as lb
from lowerbound.evaluation import score

TABLE = Path(__file__).parents[1] / "docs" / "results.md"
TITLE = "Sequences: is z in use?"
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
MOST, GOES_ON = 6, 0.8  # syllables of a word at most, and the probability of another one up to there
ASKED = ("words", "languages", "epochs", "num_samples", "seed")
USED = 0.1  # nats: a rate below it is called none


@dataclass(frozen=True)
class Row:
    """One model: its name, and what is switched on."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


HALF = "half of the training"
OFF: dict[str, Any] = {"word_dropout": 0.0, "free_nats": 0.0, "warm_up_steps": 0}
# Bowman et al. 2016, arXiv 1511.06349, sec. 3.1 and 3.2; Kingma et al. 2016, arXiv 1606.04934, app. C.8
ROWS = (
    Row("plain", OFF),
    Row("warm-up", {**OFF, "warm_up_steps": HALF}),
    Row("word dropout", {**OFF, "word_dropout": 0.25}),
    Row("free bits", {**OFF, "free_nats": 2.0}),
    Row("all three", {"word_dropout": 0.25, "free_nats": 2.0, "warm_up_steps": HALF}),
)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=8_000, help="of which a tenth each is for validation and test")
    parser.add_argument("--languages", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--num-samples", type=int, default=100, help="K of the NLL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="rows to train (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/sequences"), help="where rows are kept")
    parser.add_argument("--out", type=Path, default=TABLE)
    return parser.parse_args()


class Grammar:
    """Languages that differ in how often they have each syllable.

    Args:
        languages: how many; a word is of each with the same probability.
        seed: decides what syllables they have.
    """

    def __init__(self, languages: int, seed: int) -> None:
        self.draws = np.random.default_rng(seed)
        self.shares = self.draws.dirichlet(np.full(len(SYLLABLES), 0.15), languages)  # [languages, syllables]
        self.shares = 0.98 * self.shares + 0.02 / len(SYLLABLES)

    def words(self, count: int) -> list[str]:
        """Draw words."""
        made = []
        for language in self.draws.integers(0, len(self.shares), count):
            length = min(MOST, self.draws.geometric(1 - GOES_ON))
            syllables = self.draws.choice(len(SYLLABLES), length, p=self.shares[language])
            made.append("".join(SYLLABLES[i] for i in syllables))
        return made

    def log_prob(self, word: str) -> float:
        """Return the log-probability of a word in nats."""
        place = [SYLLABLES.index(word[i : i + 2]) for i in range(0, len(word), 2)]
        length = (len(place) - 1) * math.log(GOES_ON) + (math.log(1 - GOES_ON) if len(place) < MOST else 0.0)
        return length + float(np.logaddexp.reduce(np.log(self.shares[:, place]).sum(1))) - math.log(len(self.shares))

    def told(self, word: str) -> float:
        """Return how many nats a word tells of its language: log L less the entropy of p(language|word)."""
        place = [SYLLABLES.index(word[i : i + 2]) for i in range(0, len(word), 2)]
        log_p = np.log(self.shares[:, place]).sum(1)
        p = np.exp(log_p - np.logaddexp.reduce(log_p))
        return math.log(len(p)) + float((p * np.log(p)).sum())


def measure(row: Row, data: lb.Data, truth: np.ndarray, options: argparse.Namespace) -> tuple[dict, np.ndarray]:
    """Train and score a row; returns its numbers and the NLL of each test word."""
    started = time.perf_counter()
    how = {"precision": "float32", "kernels": "eager"}  # for all rows, short or long
    half = options.epochs * len(data.train) // lb.recipes.sequence_vae(data.spec).training.batch_size // 2
    recipe = lb.recipes.sequence_vae(data.spec, **{k: half if v == HALF else v for k, v in row.options.items()})
    run = lb.fit(recipe, data, epochs=options.epochs, seed=options.seed, progress=False, **how)
    if run.status != "done":
        raise SystemExit(f"{row.name} was stopped: nothing is kept of it")
    seconds = time.perf_counter() - started
    rows = data.test.matching(run.model.spec)
    scores = score(run.model, rows, num_samples=options.num_samples)
    rate, nll = scores.rate.double().numpy(), -scores.log_px.double().numpy()
    facts = {
        **{key: getattr(options, key) for key in ASKED},
        "options": row.options,
        "rows": len(rows),
        "best_epoch": run.best_epoch,
        "rate": _mean(rate),
        "elbo": _mean(-(scores.distortion + scores.rate).double().numpy()),
        "nll": _mean(nll),
        "above": _mean(nll - truth),
        "active_units": lb.active_units(run.model, rows),
        "train_seconds": seconds,
        "machine": f"{page.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    return facts, nll


def _mean(values: np.ndarray) -> list[float]:
    return [float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))]


def verdict(row: Row, found: dict[str, dict[str, Any]], nll: dict[str, np.ndarray]) -> str:
    """Say whether z is in use, and whether that paid, beside the plain row by paired differences."""
    rate = found[row.name]["rate"][0]
    used = f"z carries {rate:.2f} nats" if rate > USED else f"z carries nothing ({rate:.3f} nats)"
    if row.name == "plain" or "plain" not in found:
        return used
    mean, se = _mean(nll[row.name] - nll["plain"])
    held = "lower" if mean < -2 * se else "higher" if mean > 2 * se else "no different"
    return f"{used}; NLL {held} than that of the plain one ({mean:+.3f} ± {se:.3f})"


def section(
    found: dict[str, dict[str, Any]], nll: dict[str, np.ndarray], truth: np.ndarray, told: float, options: Any
) -> str:
    """Return the table and what is to be known of it."""
    some = next(iter(found.values()))
    about = " ".join((__doc__ or "").split("\n\n")[1].split()).partition(" A row that is there")[0]
    entropy = _mean(truth)
    lines = [
        f"`python benchmarks/sequences.py --words {options.words} --epochs {options.epochs}`, seed {options.seed}. "
        f"{about} {options.languages} languages; a word tells {told:.2f} nats of its language on average. Numbers are "
        "nats "
        f"for each of {some['rows']:,} test words, ± their standard error: NLL is an importance-sampled upper bound "
        f"with K = {options.num_samples}, and that of the grammar itself is {_cell(entropy, 2)}; the column above is "
        "the paired difference of the two. `sequence_vae`, with what is named switched on and all else off.",
        "",
        "| switched on | rate | ELBO | NLL | above the grammar's | active units | training s | what it shows |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in (r for r in ROWS if r.name in found):
        facts = found[row.name]
        cells = ["nothing" if row.name == "plain" else row.name, _cell(facts["rate"], 3), _cell(facts["elbo"], 2)]
        cells += [_cell(facts["nll"], 2), _cell(facts["above"], 3), str(facts["active_units"])]
        cells += [f"{facts['train_seconds']:.0f}", verdict(row, found, nll)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{some['machine']}, {some['date']}."])


def _cell(number: list[float], digits: int) -> str:
    return f"{number[0]:.{digits}f} ± {number[1]:.{digits}f}"


def main(say: Callable[[str], None]) -> None:
    """Measure the rows that are missing, and write the section after each."""
    options = arguments()
    grammar = Grammar(options.languages, options.seed)
    data = lb.from_sequences(grammar.words(options.words), name="made-up languages", seed=options.seed)
    held = lb.to_sequences(data.test.values(), data.spec)
    truth = np.array([-grammar.log_prob(word) for word in held])
    told = float(np.mean([grammar.told(word) for word in held]))
    found: dict[str, dict[str, Any]] = {}
    nll: dict[str, np.ndarray] = {}
    measured = page.kept_rows(ROWS, options, ASKED, lambda row: measure(row, data, truth, options), blank=" ")
    for row, facts, numbers in measured:
        found[row.name], nll[row.name] = facts, numbers
        page.put_section(options.out, TITLE, section(found, nll, truth, told, options))
        say(f"{row.name}: NLL {_cell(found[row.name]['nll'], 2)}; {verdict(row, found, nll)}")


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
