"""`gated_flow_vae` on dynamically binarised MNIST: three minutes of training on two cores, then the test images' NLL.

The goal is at most 85.0 nats with K = 100 on all 10,000 test images.

    python benchmarks/gated_flow.py [--epochs 36] [--precision bf16] [--out benchmarks/results/NAME.md]
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from page import page

import lowerbound as lb


def main(say: Callable[[str], None]) -> None:
    """Train, score all 10,000 test images, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-samples", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = lb.load_data("mnist")
    recipe = lb.recipes.gated_flow_vae(data.spec, warmup=options.warmup)
    training = replace(recipe.training, epochs=options.epochs, batch_size=options.batch_size)
    recipe = recipe.replace(training=replace(training, lr=options.lr, ema=options.ema))
    run = lb.fit(recipe, data, seed=options.seed, precision=options.precision, kernels="eager")
    seconds = run.history[-1]["seconds"]
    numbers = lb.evaluate(run.model, data.test, num_samples=options.num_samples)
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    about = [
        f"{seconds:.1f} s of training ({options.epochs} epochs; validation after each is not counted), best epoch "
        f"{run.best_epoch}; all {len(data.test):,} test images, binarised once by seed:",
        "",
    ]
    command = f"`python benchmarks/gated_flow.py`, {settings}"
    say(page("gated_flow_vae on MNIST", command, about, numbers, options.out))


if __name__ == "__main__":
    main(print)
