"""What the faster learning of a likelihood's variance gains: the same training with and without it.

Data: 32 x 32 patches of scikit-learn's two photos (every second of a grid of stride 16), and a table of six correlated
normals, both under a Normal of one variance. Run: `python benchmarks/scale_rate.py`; it prints the validation ELBO in
nats for each example.
"""

import numpy as np
from sklearn.datasets import load_sample_images

import lowerbound as lb
from lowerbound.families import SharedNormal
from lowerbound.recipes.parts import noise_floor
from lowerbound.train import update

SIZE, STRIDE = 32, 16


def patches() -> np.ndarray:
    """Return patches `[N, 3, 32, 32]`, bytes."""
    found = [
        photo[top : top + SIZE, left : left + SIZE]
        for photo in load_sample_images().images
        for top in range(0, photo.shape[0] - SIZE + 1, STRIDE)
        for left in range(0, photo.shape[1] - SIZE + 1, STRIDE)
    ]
    return np.stack(found).transpose(0, 3, 1, 2)[::2]


def table() -> np.ndarray:
    """Return 2,000 rows of six correlated normals."""
    mix = np.random.default_rng(1).normal(size=(6, 6))
    return np.random.default_rng(0).normal(size=(2000, 6)) @ mix


def elbo(recipe: lb.Recipe, data: lb.Data, epochs: int) -> float:
    """Return the best validation ELBO."""
    return lb.fit(recipe, data, epochs=epochs, seed=0, progress=False).best


def main() -> None:
    """Train both, without and with."""
    photos, numbers = lb.from_arrays(patches()), lb.from_arrays(table(), standardize=True)
    normal = SharedNormal(photos.spec.shape, noise_floor(photos.spec))
    of_photos = lb.composed(lb.recipes.conv_vae(photos.spec, latent_dim=32), likelihood=normal, spec=photos.spec)
    cases = (
        ("conv_vae on photo patches, 10 epochs", of_photos, photos, 10),
        ("vae on a correlated table, 25 epochs", lb.recipes.vae(numbers.spec, latent_dim=3), numbers, 25),
    )
    usual = update.SCALE_LR
    for name, recipe, data, epochs in cases:
        found = []
        for rate in (0.0, usual):
            update.SCALE_LR = rate
            found.append(elbo(recipe, data, epochs))
        print(f"{name}: {found[0]:.2f} at the networks' rate, {found[1]:.2f} at {usual} or more")  # noqa: T201
    update.SCALE_LR = usual


if __name__ == "__main__":
    main()
