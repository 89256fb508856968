"""`lowerbound demo`: the whole way from nothing to pictures, on real MNIST."""

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UsageError
from ..data import load_data
from ..evaluation import evaluate
from ..explore.report import report
from ..explore.sheets import sample_grid
from ..explore.write import write_examples
from ..recipes import vae
from ..ship.files import write_results
from ..train import fit
from ..train.plan import start_threads
from ..train.run import free_name
from .common import RUNS
from .evaluate import show
from .mistakes import parse
from .output import saved, say
from .reconstruct import reconstruct

LATENT_DIM = 20
EPOCHS = 16
WARMUP = 1720  # four epochs of 430 steps


@dataclass
class Demo:
    """Train a VAE on MNIST (dynamic binarisation), evaluate it on all test images, draw pictures, write the report."""

    epochs: int = EPOCHS
    """Passes through the training data."""
    num_samples: int = 100
    """K of the importance-sampled NLL."""
    seed: int = 0
    """Decides initial weights, order and noise."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    out: Path | None = None
    """Run folder to create (default: runs/demo)."""


def command(words: list[str]) -> int:
    """Run `lowerbound demo`."""
    options = parse(Demo, words, "demo")
    if options.num_samples < 1:
        raise UsageError(f"the number of samples cannot be {options.num_samples}", expected="a whole number above 0")
    start_threads()
    data = load_data("mnist")
    recipe = vae(data.spec, latent_dim=LATENT_DIM, warmup=WARMUP)
    out = options.out or free_name(RUNS, "demo")
    run = fit(recipe, data, epochs=options.epochs, seed=options.seed, device=options.device, out=out, report=False)
    if run.exit_code:
        return run.exit_code
    rows = data.test.matching(recipe.spec).to(run.model.device)
    say(f"evaluating all {len(rows):,} test images, K = {options.num_samples}")
    numbers = evaluate(run.model, rows, num_samples=options.num_samples)
    (out / "eval").mkdir()
    write_results(out / "eval" / "test.json", numbers.to_json())
    show(numbers)
    samples = run.model.sample(64, seed=options.seed)
    path = out / "samples" / "samples-mean.png"
    say(f"samples:         {write_examples(path, samples, recipe.spec, lambda: sample_grid(samples, 'mean'))}")
    path = out / "samples" / "reconstructions-mean.png"
    made = reconstruct(run.model, rows.take(20), path, recipe.spec, "mean", options.seed)
    say(f"reconstructions: {made}")
    say(f"report:          {report(out, data=data, device=options.device, seed=options.seed)}")
    name = out.name if out.parent == RUNS else out
    saved(out, f"lowerbound train conv_vae --data mnist, or lowerbound sample {name} --show draw")
    return 0
