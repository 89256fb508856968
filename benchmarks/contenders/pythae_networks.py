"""The layers of Pythae's convolutional MNIST network, for programs that are compared with it: 1.3 GFLOP an image."""

from torch import nn


def conv_encoder(latent_dim: int) -> nn.Sequential:
    """Return four strided convolutions with BatchNorm, and mean and log variance: `[N, 1, 28, 28]` to `[N, 2 z]`."""
    layers: list[nn.Module] = []
    for given, made in ((1, 128), (128, 256), (256, 512), (512, 1024)):
        layers += [nn.Conv2d(given, made, 4, 2, 1), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 2 * latent_dim))


def conv_decoder(latent_dim: int) -> nn.Sequential:
    """Return a linear layer and three transposed convolutions, `[N, z]` to logits `[N, 1, 28, 28]`."""
    return nn.Sequential(
        nn.Linear(latent_dim, 1024 * 4 * 4),
        nn.Unflatten(1, (1024, 4, 4)),
        *(nn.ConvTranspose2d(1024, 512, 3, 2, 1), nn.BatchNorm2d(512), nn.ReLU()),
        *(nn.ConvTranspose2d(512, 256, 3, 2, 1, 1), nn.BatchNorm2d(256), nn.ReLU()),
        nn.ConvTranspose2d(256, 1, 3, 2, 1, 1),
    )
