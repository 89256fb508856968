"""The same networks trained by `lowerbound`'s own loop, with its checks and metrics, as `lowerbound train` runs it."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import worker
from pythae_networks import conv_decoder, conv_encoder
from torch import Tensor, nn

import lowerbound as lb
from lowerbound.core.model import Conditional, Encoder, Network
from lowerbound.core.record import recorded
from lowerbound.data import Data
from lowerbound.train.fit import pick_device
from lowerbound.train.loop import Loop
from lowerbound.train.plan import computing, start_threads
from lowerbound.train.run import Stop


@recorded
class PeerNetwork(Network):
    """One of the layers that Pythae ships for MNIST; `encodes` tells which."""

    def __init__(self, out_shape: tuple[int, ...], *, encodes: bool) -> None:
        super().__init__()
        latents = (worker.LATENT,)
        self.in_shape, self.out_shape = ((1, 28, 28) if encodes else latents), tuple(out_shape)
        self.body: nn.Module = conv_encoder(worker.LATENT) if encodes else conv_decoder(worker.LATENT)

    def start_at(self, bias: Tensor) -> None:
        """Leave the bias as the peer's is."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map x `[N, *in_shape]` to `[N, *out_shape]`."""
        return self.body(x).reshape(-1, *self.out_shape)


def recipe(spec: lb.DataSpec) -> Any:
    """Return a VAE with the network asked for."""
    made = lb.recipes.vae(spec, latent_dim=worker.LATENT, hidden=(512,), activation="relu")
    if worker.network() == "conv":
        encoder = Encoder([PeerNetwork((2, worker.LATENT), encodes=True)])
        decoder = Conditional(PeerNetwork((1, 28, 28), encodes=False), made.decoder.family)
        made = made.replace(encoder=encoder, decoder=decoder)
    return made.replace(training=lb.Training(epochs=100, batch_size=worker.BATCH, lr=worker.LR))


def main() -> None:
    """Serve epochs; further words on the command line name precision and kernels, instead of the rule's."""
    start_threads()
    mnist = lb.load_data("mnist")
    x = torch.from_numpy(worker.images()).unflatten(1, (1, 28, 28))
    spec = replace(mnist.spec, binarize="none", support="binary", size=len(x))
    train = replace(mnist.train, x=x, y=None, spec=spec, scale=1, index=None)
    data = Data(train, train.take(1000), train.take(1000))
    options = dict(word.split("=") for word in sys.argv[3:])
    loop = Loop(recipe(spec), data, 0, pick_device("auto"), **options)

    def epoch() -> None:
        loop.progress.epoch += 1
        loop._epoch(Stop())

    def weights() -> dict[str, np.ndarray]:
        if worker.network() == "conv":
            return {}
        tensors = {key: value.detach().cpu() for key, value in loop.learner.model.state_dict().items()}
        encoder, decoder = "encoder.networks.0", "decoder.network"
        made = {"enc_w": tensors[f"{encoder}.body.0.weight"].T, "enc_b": tensors[f"{encoder}.body.0.bias"]}
        made["mu_w"], made["lv_w"] = tensors[f"{encoder}.out.weight"].T.chunk(2, 1)
        made["mu_b"], made["lv_b"] = tensors[f"{encoder}.out.bias"].chunk(2)
        made |= {"dec_w": tensors[f"{decoder}.body.0.weight"].T, "dec_b": tensors[f"{decoder}.body.0.bias"]}
        made |= {"out_w": tensors[f"{decoder}.out.weight"].T, "out_b": tensors[f"{decoder}.out.bias"]}
        return {name: value.numpy() for name, value in made.items()}

    with computing(loop.learner.plan.threads):
        worker.serve(epoch, weights)


if __name__ == "__main__":
    main()
