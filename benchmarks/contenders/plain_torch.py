"""The same networks in a hand-written PyTorch loop: arrays in memory, fused Adam, nothing else."""

import numpy as np
import torch
import torch.nn.functional as F
import worker
from pythae_networks import conv_decoder, conv_encoder
from torch import nn


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder."""
    if name == "conv":
        return conv_encoder(worker.LATENT), conv_decoder(worker.LATENT)
    encoder = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 2 * worker.LATENT))
    return encoder, nn.Sequential(nn.Linear(worker.LATENT, 512), nn.ReLU(), nn.Linear(512, 784))


def main() -> None:
    """Serve epochs."""
    x = torch.from_numpy(worker.images())
    x = x.unflatten(1, (1, 28, 28)) if worker.network() == "conv" else x
    torch.manual_seed(0)
    encoder, decoder = networks(worker.network())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, encoder, decoder = x.to(device), encoder.to(device), decoder.to(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], worker.LR, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(x), device=device).split(worker.BATCH):
            batch = x[index].float()
            mu, log_var = encoder(batch).chunk(2, -1)
            z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
            each = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="none")
            distortion = each.flatten(1).sum(-1)
            rate = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(-1)
            optimizer.zero_grad()
            (distortion + rate).mean().backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    def weights() -> dict[str, np.ndarray]:
        if worker.network() == "conv":
            return {}
        tensors = {key: value.cpu() for key, value in encoder.state_dict().items()}
        made = {"enc_w": tensors["0.weight"].T, "enc_b": tensors["0.bias"]}
        made["mu_w"], made["lv_w"] = tensors["2.weight"].T.chunk(2, 1)
        made["mu_b"], made["lv_b"] = tensors["2.bias"].chunk(2)
        tensors = {key: value.cpu() for key, value in decoder.state_dict().items()}
        made |= {"dec_w": tensors["0.weight"].T, "dec_b": tensors["0.bias"]}
        made |= {"out_w": tensors["2.weight"].T, "out_b": tensors["2.bias"]}
        return {name: value.numpy() for name, value in made.items()}

    worker.serve(epoch, weights)


if __name__ == "__main__":
    main()
