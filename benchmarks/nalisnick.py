"""A model of clothes finds digits likelier than clothes: which scores repair it (Nalisnick et al. 2019, 1810.09136)?

Trains `discretized_logistic_vae` on Fashion-MNIST and tells MNIST's test images from Fashion's by every score there is:
AUROC 1 finds all digits first, 1/2 is chance, below 1/2 digits look more usual than clothes. A second model, trained on
clothes with a part of their pixels replaced, serves the likelihood ratio (Ren et al. 2019, arXiv 1906.02845), three
seeds WAIC. Fashion-MNIST is four IDX files (on Debian: the package `dataset-fashion-mnist`).

    python benchmarks/nalisnick.py FASHION_FOLDER [--epochs 5] [--rows 2000] [--out benchmarks/results/NAME.md]
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from page import page

import lowerbound as lb


def mutated(data: lb.Data, share: float) -> lb.Data:
    """Return the data with a share of the training pixels replaced by uniform grey values."""
    draws = torch.Generator().manual_seed(0)

    def changed(rows: lb.Dataset) -> lb.Dataset:
        x = rows.x
        noise = torch.randint(0, rows.scale + 1, x.shape, generator=draws).to(x)
        return replace(rows, x=torch.where(torch.rand(x.shape, generator=draws) < share, noise, x))

    return replace(data, train=changed(data.train), valid=None if data.valid is None else changed(data.valid))


def main(say: Callable[[str], None]) -> None:
    """Train the models, score both test sets, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000, help="test images of each, the first ones")
    parser.add_argument("--num-samples", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.2, help="of the pixels replaced for the likelihood ratio")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    clothes, digits = lb.load_data(options.fashion), lb.load_data("mnist")
    recipe = lb.recipes.discretized_logistic_vae(clothes.spec)

    def trained(data: lb.Data, seed: int) -> lb.VAE:
        return lb.fit(recipe, data, epochs=options.epochs, seed=seed, progress=False, precision="float32").model

    models = [trained(clothes, seed) for seed in range(3)]
    report = lb.outliers(
        models[0],
        clothes.test.take(options.rows),
        digits.test.take(options.rows),
        reference=clothes.valid,
        background=trained(mutated(clothes, options.share), 0),
        ensemble=models[1:],
        num_samples=options.num_samples,
    )
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "fashion")}
    command = f"`python benchmarks/nalisnick.py FASHION_FOLDER`, {settings}. One training of each model"
    say(page("Digits under a model of clothes", command, [], report, options.out))


if __name__ == "__main__":
    main(print)
