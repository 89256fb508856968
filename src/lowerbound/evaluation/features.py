"""Features that samples are compared by, made from the data themselves: nothing is fetched.

Labelled images are seen through a small classifier that is trained once and kept in a cache, other images through their
principal components, tables and points through their columns. A distance of such features is a number of its own, named
after them (`fd_cnn_mnist`); it is not the FID, and compares with numbers of the same features alone.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import DataError
from ..core.model import inference
from ..core.noise import Stream, seeded
from ..core.spec import Column
from ..data.checks import fingerprint
from ..data.dataset import Data, Dataset

VERSION = 1  # of the classifier and its training: another one makes other files
WIDTH = 64  # features of the classifier, and principal components at most
STAGES = (16, 32, 64, 64, 64)  # channels
BATCH, LR, DECAY = 128, 2e-3, 1e-4
EPOCHS, FEWEST, MOST = 4, 800, 3000  # steps: four epochs, within these
FITTED_ROWS = 10_000  # rows that scales and components are fitted on, at most
_ROWS = 500


@dataclass(frozen=True)
class Extractor:
    """A map from rows to features.

    Args:
        name: what numbers of these features are called after, such as "cnn_mnist".
        network: a module from rows in model units `[N, *shape]` to features `[N, F]`.
        about: what the features are, for people.
        key: what they were made from, as a digest: numbers compare only where it is the same.
        accuracy: share of the held-out rows whose label a classifier gave right; None for other features.
        notes: what went wrong with the cache, for people.
        rows: how many are put through the network at once.
    """

    name: str
    network: nn.Module
    about: str
    key: str
    accuracy: float | None = None
    notes: tuple[str, ...] = ()
    rows: int = _ROWS

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the features of rows `[N, *shape]`, `[N, F]` float64 on the CPU."""
        place = next((t.device for t in (*self.network.parameters(), *self.network.buffers())), rows.device)
        with inference(self.network):
            return torch.cat([self.network(part.to(place).float()).double().cpu() for part in rows.split(self.rows)])


class Classifier(nn.Module):
    """A small convolutional network from images to logits; its last hidden layer before the ReLU is their features.

    Each stage is a 3 x 3 convolution, a ReLU and, while the image has 8 pixels or more each way, a 2 x 2 maximum.

    Args:
        shape: (channels, height, width).
        classes: number of labels.

    >>> Classifier((3, 9, 17), 5).features(torch.zeros(2, 3, 9, 17)).shape
    torch.Size([2, 64])
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        stages: list[nn.Module] = []
        for i, out in enumerate(STAGES):
            stages += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            channels = out
            if min(height, width) >= 8:
                stages.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            elif i:
                break
        self.stages = nn.Sequential(*stages, nn.Flatten(), nn.Linear(channels * height * width, WIDTH))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, classes))
        self.pixels = _Scaled(())
        self.scaled = _Scaled((WIDTH,))

    def features(self, x: Tensor) -> Tensor:
        """Return `[N, 64]`: each feature has mean 0 and standard deviation 1 over the training rows."""
        return self.scaled(self.stages(self.pixels(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]`."""
        return self.head(self.stages(self.pixels(x)))


class _Scaled(nn.Module):
    """(x - mean) / scale, with numbers that are fitted and not trained."""

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, values: Tensor) -> None:
        """Set mean and scale to those of values `[N, *shape]`; what is constant keeps the scale 1."""
        values = values.double()
        axes = tuple(range(values.ndim - self.mean.ndim))
        scale = values.std(axes)
        self.mean.copy_(values.mean(axes))
        self.scale.copy_(torch.where(scale > 1e-6, scale, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


class _Seen(nn.Module):
    """A classifier's features."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier.features(x)


class _Components(nn.Module):
    """Coordinates along principal components, all over one scale: the root of their mean variance."""

    mean: Tensor
    axes: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        flat = rows.flatten(1)
        width = min(WIDTH, flat.shape[1], len(flat) - 1)
        with seeded(Stream.EVALUATION, VERSION):
            _, size, axes = torch.pca_lowrank(flat, min(width + 16, *flat.shape), niter=4)
        scale = float(size[:width].square().sum().div(width * (len(flat) - 1)).sqrt())
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("axes", axes[:, :width] / (scale if scale > 0 else 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.axes


class _Columns(nn.Module):
    """Real columns over their scale, booleans as 0 and 1, categories one-hot."""

    def __init__(self, rows: Tensor, columns: tuple[Column, ...]) -> None:
        super().__init__()
        flat = rows.flatten(1)
        self.sizes = tuple(c.size for c in columns) or (0,) * flat.shape[1]
        self.scaled = _Scaled((flat.shape[1],))
        self.scaled.fit(flat)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        real = self.scaled(flat)
        parts = [
            F.one_hot(flat[:, i].round().long(), size).to(x) if size > 1 else (flat if size else real)[:, i, None]
            for i, size in enumerate(self.sizes)
        ]
        return torch.cat(parts, 1)


def features_for(data: Data, *, cache: Path | None = None, say: Callable[[str], None] | None = None) -> Extractor:
    """Return the features that samples of a model of these data are compared by.

    Args:
        data: splits as the model wants them (`Dataset.matching`): binarised if it models binarised pixels.
        cache: folder of trained classifiers; None means `cache_folder()`.
        say: is told what takes long.

    Raises:
        DataError: if there are fewer than 2 training rows.
    """
    if len(data.train) < 2:
        raise DataError(f"{data.spec.name} has {len(data.train)} training rows", expected="at least 2 to fit features")
    if data.spec.kind != "image":
        return column_features(data)
    if data.train.y is None or data.spec.num_classes < 2:
        return component_features(data)
    return classifier_features(data, cache=cache, say=say)


def column_features(data: Data) -> Extractor:
    """Return the columns of a table, or the coordinates of points, as features named `columns_<data>`.

    Real columns are standardised by mean and standard deviation of the training rows, booleans are 0 and 1, categories
    one-hot.

    >>> from lowerbound import load_data
    >>> made = column_features(load_data("ring"))
    >>> made.name, tuple(made(torch.zeros(3, 2)).shape)
    ('columns_ring', (3, 2))
    """
    network = _Columns(data.train.values(), data.spec.modelled)
    return Extractor(f"columns_{_name(data)}", network, "standardised columns, categories one-hot", fingerprint(data))


def component_features(data: Data) -> Extractor:
    """Return up to 64 principal components of the training rows as features named `pca_<data>`.

    They are fitted on 10,000 training rows at most and divided by one number, which makes their mean variance 1.
    """
    network = _Components(data.train.values(slice(FITTED_ROWS)))
    about = f"{network.axes.shape[1]} principal components of the training pixels"
    return Extractor(f"pca_{_name(data)}", network, about, fingerprint(data))


def classifier_features(
    data: Data, *, seed: int = 0, cache: Path | None = None, say: Callable[[str], None] | None = None
) -> Extractor:
    """Return the last hidden layer of a classifier as features named `cnn_<data>`, standardised on the training rows.

    The classifier (`Classifier`) is trained on the training rows by Adam, for four epochs but 800 to 3,000 steps,
    always on the CPU, and kept in the cache under a digest of data, architecture and seed: other data make
    another file. A cache that is damaged or cannot be written is noted, and the classifier trained again.

    Args:
        data: splits with labels, as the model wants them.
        seed: decides initial weights and order.
        cache: folder to keep it in; None means `cache_folder()`.
        say: is told when one is trained.

    Raises:
        DataError: if the training rows have no labels.
    """
    if data.train.y is None:
        raise DataError(f"{data.spec.name} has no labels to train a classifier with", fix="use component_features")
    made_of = [VERSION, fingerprint(data), list(data.spec.shape), data.train.scale, data.spec.num_classes, seed]
    key = hashlib.blake2b(json.dumps(made_of).encode(), digest_size=8).hexdigest()
    with seeded(Stream.EVALUATION, VERSION, seed):
        classifier = Classifier(data.spec.shape, data.spec.num_classes)
    accuracy, notes = _cached(classifier, data, key, seed, cache or cache_folder(), say)
    right = "" if accuracy is None else f" that names {accuracy:.1%} of the held-out rows right"
    about = f"the {WIDTH} last hidden units of a classifier{right}"
    return Extractor(f"cnn_{_name(data)}", _Seen(classifier), about, key, accuracy, notes)


def cache_folder() -> Path | None:
    """Return where classifiers are kept: $LOWERBOUND_CACHE, or lowerbound/ in $XDG_CACHE_HOME or ~/.cache.

    None means nowhere: there is no home folder.
    """
    own, shared = os.environ.get("LOWERBOUND_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    try:
        return (Path(shared) if shared else Path("~/.cache").expanduser()) / "lowerbound"
    except RuntimeError:  # no home
        return None


def _name(data: Data) -> str:
    """Return the data's name as part of a number's; binarised pixels say so, since they make other features."""
    protocol = data.train.spec.binarize
    called = data.spec.name if protocol in ("none", "auto") else f"{data.spec.name}_{protocol}"
    return re.sub(r"\W+", "_", called).strip("_") or "data"


def _cached(
    classifier: Classifier, data: Data, key: str, seed: int, folder: Path | None, say: Callable[[str], None] | None
) -> tuple[float | None, tuple[str, ...]]:
    """Fill the classifier from the cache, or train it and put it there; return its accuracy and what went wrong."""
    if folder is None:
        why = "the classifier was not kept, since there is no home folder: set LOWERBOUND_CACHE"
        return _trained(classifier, data, seed, say), (why,)
    notes: list[str] = []
    path = folder / f"classifier-{key}.safetensors"
    try:
        return _read(path, classifier), ()
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        notes.append(f"the classifier in {path} could not be read and was trained again: {_short(error)}")
    accuracy = _trained(classifier, data, seed, say)
    try:
        _write(path, classifier, accuracy, data.spec.name)
    except (OSError, SafetensorError) as error:
        notes.append(f"the classifier was not kept in {folder}, so it will be trained again: {_short(error)}")
    return accuracy, tuple(notes)


def _read(path: Path, classifier: Classifier) -> float | None:
    """Fill the classifier from a file and return its accuracy; ValueError if the file is not what it was."""
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    wanted = {name: tensor.shape for name, tensor in classifier.state_dict().items()}
    if not isinstance(about, dict) or {name: tensor.shape for name, tensor in tensors.items()} != wanted:
        raise ValueError("it holds another classifier")
    if about["digest"] != _digest(tensors):
        raise ValueError("its weights are damaged")
    classifier.load_state_dict(tensors)
    return about["accuracy"]


def _write(path: Path, classifier: Classifier, accuracy: float | None, name: str) -> None:
    """Write weights and, in their header, JSON; a reader sees the whole file or none."""
    tensors = classifier.state_dict()
    about = {"data": name, "accuracy": accuracy, "digest": _digest(tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _trained(classifier: Classifier, data: Data, seed: int, say: Callable[[str], None] | None) -> float | None:
    """Train the classifier, fit its scales, and return the share of the held-out rows that it names right."""
    steps = min(max(EPOCHS * len(data.train) // BATCH, FEWEST), MOST)
    if say is not None:
        say(f"training a classifier of {data.spec.name} for its features, once ({steps:,} steps)")
    with seeded(Stream.EVALUATION, VERSION, seed):
        fitted = data.train.values(torch.randperm(len(data.train))[:FITTED_ROWS])
        classifier.pixels.fit(fitted)
        _fit(classifier, data.train, steps)
    with inference(classifier):
        classifier.scaled.fit(torch.cat([classifier.features(part) for part in fitted.split(_ROWS)]))
        return _accuracy(classifier, data.test)


def _fit(classifier: Classifier, rows: Dataset, steps: int) -> None:
    """Take Adam's steps with a learning rate that falls to 0 as a cosine."""
    assert rows.y is not None
    classifier.train()
    optimiser = torch.optim.AdamW(classifier.parameters(), LR, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(rows))])
        batch, order = order[:BATCH], order[BATCH:]
        loss = F.cross_entropy(classifier(rows.values(batch)), rows.y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _accuracy(classifier: Classifier, rows: Dataset) -> float | None:
    if rows.y is None or not len(rows):
        return None
    says = torch.cat([classifier(rows.values(slice(i, i + _ROWS))).argmax(1) for i in range(0, len(rows), _ROWS)])
    return float((says == rows.y).double().mean())
