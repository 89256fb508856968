"""Convolutions in float32 beside the matrix products in bfloat16 that may stand for them, forward and backward.

What is compared is the time that one core computes, so other work on the machine matters little. `train/plan.py`
chooses by it how wide a convolution has to be to be worth a product.

    python benchmarks/convolutions.py [--batch 128] [--size 14] [--times 9] [--out benchmarks/results/NAME.md]
"""

import argparse
import functools
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import page
import torch
from torch import Tensor, nn

from lowerbound.train.plan import has_bf16, low_precision

CPU = torch.device("cpu")
CHANNELS = (24, 32, 64, 128, 256)
KINDS: dict[str, Callable[[int], nn.Module]] = {
    "3 x 3": lambda c: nn.Conv2d(c, c, 3, padding=1),
    "4 x 4, halving": lambda c: nn.Conv2d(c, c, 4, 2, 1),
    "4 x 4, doubling": lambda c: nn.ConvTranspose2d(c, c, 4, 2, 1),
}


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=14, help="height and width of the images")
    parser.add_argument("--times", type=int, default=9, help="passes of each, in turn, after one that does not count")
    parser.add_argument("--out", type=Path, help="write the result there as Markdown")
    return parser.parse_args()


def seconds(layer: nn.Module, x: Tensor, *, product: bool) -> float:
    """Return the time that a pass and its gradient take on the core."""
    started = time.process_time()
    with low_precision(CPU, products=True) if product else nullcontext():
        y = layer(x)
    y.float().sum().backward()
    return time.process_time() - started


def compared(layer: nn.Module, x: Tensor, times: int) -> tuple[float, float]:
    """Return the median milliseconds in float32 and as a product, measured in turn."""
    rounds = [[seconds(layer, x, product=product) for product in (False, True)] for _ in range(times + 1)][1:]
    plain, product = (1000 * median(each) for each in zip(*rounds, strict=True))
    return plain, product


def main(say: Callable[[str], None]) -> None:
    """Measure all kinds and widths."""
    options = arguments()
    if not has_bf16(CPU):
        say("this processor has no instructions for bfloat16: there is nothing to compare")
        return
    torch.set_num_threads(1)
    lines = ["| convolution | channels | float32, ms | product, ms | product / float32 |", "|---|---|---|---|---|"]
    for kind, made in KINDS.items():
        for channels in CHANNELS:
            torch.manual_seed(0)
            x = torch.randn(options.batch, channels, options.size, options.size, requires_grad=True)
            plain, product = compared(made(channels), x, options.times)
            lines.append(f"| {kind} | {channels} | {plain:.1f} | {product:.1f} | {product / plain:.2f} |")
    settings = f"--batch {options.batch} --size {options.size} --times {options.times}"
    command = f"`python benchmarks/convolutions.py {settings}`"
    say(page.page("Convolutions as products in bfloat16, on one core", command, lines, None, options.out))


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
