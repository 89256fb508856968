"""A reader of images: a small classifier that judges what models draw, trained on the real training images alone."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor

import lowerbound as lb

ROWS = 20_000  # training images at most


@dataclass(frozen=True)
class Reader:
    """A classifier of images with one hidden layer.

    Args:
        model: the trained `MLPClassifier`.
        accuracy: share of the test images that it reads right.
        num_test: on how many test images that was measured.
    """

    model: Any
    accuracy: float
    num_test: int

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, `[N, classes]`, for images `[N, C, H, W]` with values in [0, 1]."""
        return torch.from_numpy(self.model.predict_proba(_rows(images))).float()

    def classes(self, images: Tensor) -> Tensor:
        """Return the most probable class of each image, `[N]`."""
        return self.probabilities(images).argmax(1)

    def features(self, images: Tensor) -> Tensor:
        """Return what the hidden layer makes of each image (its ReLU outputs), `[N, F]` float64."""
        weights, bias = self.model.coefs_[0], self.model.intercepts_[0]
        return torch.from_numpy(np.maximum(_rows(images) @ weights + bias, 0)).double()

    def sure(self, images: Tensor, level: float = 0.9) -> Tensor:
        """Return whether the most probable class has a probability above `level`, `[N]` bool."""
        return self.probabilities(images).amax(1) > level


def reader(data: lb.Data, *, small: bool) -> Reader:
    """Return a reader trained on the first training images, and measured on all test images.

    Args:
        data: labelled images; their grey values are read, whatever the binarisation.
        small: train for a few seconds less.
    """
    train = data.train.take(min(ROWS, len(data.train)))
    assert train.y is not None, "a reader learns from labels"
    assert data.test.y is not None, "a reader is measured by labels"
    model = MLPClassifier((64,) if small else (128,), max_iter=50 if small else 30, alpha=1e-3, random_state=0)
    with warnings.catch_warnings():  # the number of epochs is set, whether or not more would help
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_rows(train.values()), train.y.numpy())
    # classes_ are 0..C-1, all of them: a column of `probabilities` is a class
    assert model.classes_.tolist() == list(range(data.spec.num_classes)), "each class needs a training image"
    right = np.asarray(model.predict(_rows(data.test.values()))) == data.test.y.numpy()
    return Reader(model, float(right.mean()), len(right))


def _rows(images: Tensor) -> np.ndarray:
    return images.detach().cpu().flatten(1).numpy().astype(np.float32)
