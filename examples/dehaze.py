"""Learn to remove haze from photos with a VAE, on SYNTHETIC haze: no photo here was taken in fog.

The photos are the two that come with scikit-learn (`load_sample_images`: china.jpg, flower.jpg). Patches of the left
of each are for training, of the right for testing, with no pixel in common. `lowerbound.data.corruptions.Haze` lays
haze on them: a scattering model with a made-up depth. The commands are those of a user with two folders:

    lowerbound train conv_vae --data FOLDER/train/clean --seen FOLDER/train/hazy ...
    lowerbound denoise RUN --data FOLDER/test/hazy --clean FOLDER/test/clean

What comes out is the mean of p(x|z) at a code of 64 numbers for 1,728 values: flat patches become clear, fine texture
is lost. So the mean SSIM rises although that of the most textured patches falls; the share that rises is printed.

Run it by `python examples/dehaze.py --out FOLDER`; it takes about a minute on two cores.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from lowerbound.data.corruptions import Haze

# Columns of the photos (of 640). What lies between 400 and 496 served to choose the settings below; then it joined the
# training patches.
TRAIN, VALID, TEST = (0, 400), (400, 496), (496, 640)
# A Normal: its distortion is the squared error that PSNR counts.
SETTINGS = {"likelihood": "shared_normal", "epochs": 16, "batch-size": 16, "lr": 0.003, "latent-dim": 64}


def patches(columns: tuple[int, int], size: int, stride: int) -> np.ndarray:
    """Return patches `[N, 3, size, size]`, bytes, of these columns of both photos."""
    found = []
    for photo in load_sample_images().images:
        part = photo[:, slice(*columns)]
        for top in range(0, part.shape[0] - size + 1, stride):
            found += [part[top : top + size, left : left + size] for left in range(0, part.shape[1] - size + 1, stride)]
    return np.stack(found).transpose(0, 3, 1, 2)


def hazy(clean: np.ndarray, thickness: float, seed: int) -> np.ndarray:
    """Return patches `[N, 3, H, W]` behind synthetic haze, bytes."""
    torch.manual_seed(seed)
    haze = Haze(thickness)(torch.from_numpy(clean).float() / 255)
    return (haze * 255).round().byte().numpy()


def write(folder: Path, images: np.ndarray) -> None:
    """Write images `[N, 3, H, W]` as folder/00000.png and so on."""
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:05d}.png")


def write_pairs(folder: Path, clean: np.ndarray, thickness: float, seed: int) -> None:
    """Write pairs as folder/clean and folder/hazy, with the same file names."""
    write(folder / "clean", clean)
    write(folder / "hazy", hazy(clean, thickness, seed))


def lowerbound(*words: object) -> str:
    """Run a command of `lowerbound`, showing it and what it says; return what it prints."""
    told = [str(word) for word in words]
    sys.stderr.write(f"$ lowerbound {shlex.join(told)}\n")
    command = [sys.executable, "-m", "lowerbound", *told]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def dehaze(
    out: Path, *, thickness: float, size: int, stride: int, settings: dict[str, object], score_on: str = "test"
) -> dict[str, object]:
    """Write the pairs below `out`, train, clean the held-out patches; return what `denoise --json` prints.

    Args:
        out: folder for the pairs and the run.
        thickness: of the haze.
        size: side of a patch in pixels.
        stride: between training patches; those held out do not overlap.
        settings: options of `lowerbound train conv_vae`.
        score_on: "test", or "valid" to choose settings: then nothing of the right part of the photos is used.
    """
    held, used = (TEST, (TRAIN[0], VALID[1])) if score_on == "test" else (VALID, TRAIN)
    write_pairs(out / "train", patches(used, size, stride), thickness, seed=1)
    clean = patches(held, size, size)
    mixed = np.random.default_rng(0).permutation(len(clean))  # so that the sheet shows more than the sky above
    write_pairs(out / score_on, clean[mixed], thickness, seed=2)
    options = [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]
    pairs = ["--data", out / "train/clean", "--seen", out / "train/hazy", "--test-fraction", "0.01"]
    lowerbound("train", "conv_vae", *pairs, "--out", out / "run", "--valid-fraction", "0.05", *options)
    held_pairs = ["--data", out / score_on / "hazy", "--clean", out / score_on / "clean"]
    return json.loads(lowerbound("denoise", out / "run", *held_pairs, "--out", out / "dehazed.png", "--json"))


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Run the example and print the numbers."""
    parser = argparse.ArgumentParser(description="Remove synthetic haze from photos by a VAE.")
    parser.add_argument("--out", type=Path, help="new folder for pairs, run and sheet (default: a temporary one)")
    parser.add_argument("--thickness", type=float, default=1.5, help="of the haze (default: 1.5)")
    parser.add_argument("--size", type=int, default=24, help="side of a patch in pixels (default: 24)")
    parser.add_argument("--stride", type=int, default=8, help="between training patches in pixels (default: 8)")
    parser.add_argument("--score-on", choices=["test", "valid"], default="test", help="valid: to choose settings")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of lowerbound train conv_vae"
    )
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="dehaze-"))
    settings = {**SETTINGS, **dict(pair.split("=", 1) for pair in given.set)}
    found = dehaze(
        out,
        thickness=given.thickness,
        size=given.size,
        stride=given.stride,
        settings=settings,
        score_on=given.score_on,
    )
    say(f"synthetic haze of thickness {given.thickness:g} on {found['num']} held-out patches of real photos")
    for name in ("psnr", "ssim"):
        numbers = {what: found[what][name] for what in ("input", "output", "gain")}
        spread = (f"{what} {number['mean']:.3f} +- {number['se']:.3f}" for what, number in numbers.items())
        better = f"({found['gain'][name]['better']:.0%} of the patches better)"
        say(f"{name.upper()}  {'   '.join(spread)} {better}")
    say("the code is small: flat patches come out clear, fine texture comes out blurred")
    say(f"sheet: {out / 'dehazed.png'}")


if __name__ == "__main__":
    main()
