"""The Inception network of the FID, for weights that the user has: none are fetched.

The structure is that of Inception v3 (Szegedy et al. 2016, arXiv 1512.00567) as TensorFlow's graph of 2015-12-05 has
it, on which the FID is defined (Heusel et al. 2017, arXiv 1706.08500), with the names of its usual port to PyTorch. It
differs from the published network in its pools: averages leave out the padding, and the last block takes maxima. No
published FID has been reproduced with it, for the weights cannot be had offline.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import CorruptArtifact, DataError, ShapeError
from .features import Extractor

SIDE = 299  # pixels
NAMED = 20  # wrong weights that an error names
_ROWS = 20  # images at once
_UNUSED = ("fc.", "AuxLogits.")  # what follows the last pool, and what only helped training
Step: TypeAlias = tuple[str, int, tuple[int, int]]  # name, output channels, kernel
Chain: TypeAlias = Sequence[Sequence[Step]]  # steps one after another; two in one place read the same input
ONE, THREE, FIVE, WIDE, HIGH = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


class _Conv(nn.Module):
    """A convolution without bias, batch normalisation with the statistics of training, and a ReLU."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int], *, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        around = (kernel[0] // 2, kernel[1] // 2) if pad else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Chains of convolutions and a pool side by side.

    Args:
        channels: of the input.
        chains: each from the input; their last steps are the output.
        pool: "mean" or "max" of 3 x 3 pixels.
        pooled: channels of the convolution after the pool; 0 halves the image instead, in all chains.
    """

    def __init__(self, channels: int, chains: Sequence[Chain], pool: Literal["mean", "max"], pooled: int) -> None:
        super().__init__()
        self.names, self.pool, self.halves = [], pool, not pooled
        self.channels = pooled or channels
        for chain in chains:
            size = channels
            for steps in chain:
                last = self.halves and steps is chain[-1]
                for name, out, kernel in steps:
                    self.add_module(name, _Conv(size, out, kernel, stride=2 if last else 1, pad=not last))
                size = steps[0][1]
            self.channels += sum(out for _, out, _ in chain[-1])
            self.names.append([[name for name, _, _ in steps] for steps in chain])
        if pooled:
            self.branch_pool = _Conv(channels, pooled, ONE)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for chain in self.names:
            made = [x]
            for names in chain:
                made = [self.get_submodule(name)(made[0]) for name in names]
            parts += made
        if self.halves:
            return torch.cat([*parts, F.max_pool2d(x, 3, 2)], 1)
        mean = self.pool == "mean"
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if mean else F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


def _five(channels: int, pooled: int) -> _Mixed:
    double = [("branch3x3dbl_1", 64, ONE)], [("branch3x3dbl_2", 96, THREE)], [("branch3x3dbl_3", 96, THREE)]
    wide = [("branch5x5_1", 48, ONE)], [("branch5x5_2", 64, FIVE)]
    return _Mixed(channels, [[[("branch1x1", 64, ONE)]], wide, double], "mean", pooled)


def _six(inside: int) -> _Mixed:
    once = [("branch7x7_1", inside, ONE)], [("branch7x7_2", inside, WIDE)], [("branch7x7_3", 192, HIGH)]
    twice = [
        [("branch7x7dbl_1", inside, ONE)],
        *([(f"branch7x7dbl_{i}", inside, (HIGH, WIDE)[i % 2])] for i in (2, 3, 4)),
        [("branch7x7dbl_5", 192, WIDE)],
    ]
    return _Mixed(768, [[[("branch1x1", 192, ONE)]], once, twice], "mean", 192)


def _seven(channels: int, pool: Literal["mean", "max"]) -> _Mixed:
    def fork(name: str) -> list[Step]:
        return [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]

    once = [("branch3x3_1", 384, ONE)], fork("branch3x3_2")
    twice = [("branch3x3dbl_1", 448, ONE)], [("branch3x3dbl_2", 384, THREE)], fork("branch3x3dbl_3")
    return _Mixed(channels, [[[("branch1x1", 320, ONE)]], once, twice], pool, 192)


class Inception(nn.Module):
    """Images in [0, 1], grey or of three colours, to the 2,048 features of the last pool, `[N, 2048]`.

    Images are scaled to 299 x 299 pixels, bilinearly and without smoothing, and to values from -1 to 1; grey ones are
    repeated for each colour. Values beyond [0, 1] are clipped first, as an image file would.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, THREE, stride=2, pad=False)
        self.Conv2d_2a_3x3 = _Conv(32, 32, THREE, pad=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, THREE)
        self.Conv2d_3b_1x1 = _Conv(64, 80, ONE)
        self.Conv2d_4a_3x3 = _Conv(80, 192, THREE, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _five(192, 32), _five(256, 64), _five(288, 64)
        double = [("branch3x3dbl_1", 64, ONE)], [("branch3x3dbl_2", 96, THREE)], [("branch3x3dbl_3", 96, THREE)]
        self.Mixed_6a = _Mixed(288, [[[("branch3x3", 384, THREE)]], double], "max", 0)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _six(128), _six(160), _six(160), _six(192)
        once = [("branch3x3_1", 192, ONE)], [("branch3x3_2", 320, THREE)]
        long = [[(f"branch7x7x3_{i + 1}", 192, kernel)] for i, kernel in enumerate((ONE, WIDE, HIGH, THREE))]
        self.Mixed_7a = _Mixed(768, [once, long], "max", 0)
        self.Mixed_7b, self.Mixed_7c = _seven(1280, "mean"), _seven(2048, "max")

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ShapeError(f"rows of shape {tuple(x.shape)} were given to Inception", expected="[N, 1 or 3, H, W]")
        x = F.interpolate(x.clamp(0, 1).expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


def inception_features(weights: str | Path) -> Extractor:
    """Return the features of the Inception network with weights from a file; their `fd_inception` is the FID.

    Args:
        weights: a .safetensors file with the names of the port to PyTorch, such as `Mixed_5b.branch1x1.conv.weight`;
            those of the last layer (`fc.weight`) are not needed and not read.

    Raises:
        DataError: if there is no such file, or its weights are not those of this network: the message names them.
        CorruptArtifact: if the file cannot be read.
    """
    path = Path(weights)
    if not path.is_file():
        raise DataError(
            f"there are no weights in {path}", expected="a .safetensors file of the FID's Inception network"
        )
    with torch.device("meta"):
        network = Inception()
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys() if _used(name)}  # noqa: SIM118
            _check(found, {name: tuple(t.shape) for name, t in network.state_dict().items() if _used(name)}, path)
            tensors = {name: file.get_tensor(name).float() for name in found}
    except (OSError, SafetensorError) as error:
        raise CorruptArtifact(f"{path.name} cannot be read: {error}", where=str(path), fix="get it again") from error
    network = network.to_empty(device="cpu")
    network.load_state_dict(tensors, strict=False)
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    about = f"the 2,048 features of Inception with the weights in {path.name}"
    return Extractor("inception", network.requires_grad_(requires_grad=False).eval(), about, key, rows=_ROWS)


def _used(name: str) -> bool:
    return not name.startswith(_UNUSED) and not name.endswith(".num_batches_tracked")


def _check(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], path: Path) -> None:
    rows = [
        f"{name}: {found.get(name, 'missing')} in the file, {wanted.get(name, 'none')} in the network"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if rows:
        more = [f"and {len(rows) - NAMED} more"] if len(rows) > NAMED else []
        raise DataError(
            "the weights do not fit the Inception network of the FID\n    " + "\n    ".join([*rows[:NAMED], *more]),
            where=str(path),
            expected="the names of its port to PyTorch, in a .safetensors file",
        )
