"""The same networks trained by Pythae's own trainer, as its documentation shows: BaseTrainer, Adam, no workers."""

import logging
import tempfile

import numpy as np
import torch
import worker
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
from pythae.trainers import BaseTrainer, BaseTrainerConfig


def main() -> None:
    """Serve epochs."""
    logging.disable(logging.INFO)
    x = torch.from_numpy(worker.images()).float().unflatten(1, (1, 28, 28))
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=worker.LATENT, reconstruction_loss="bce")
    conv = {"encoder": Encoder_Conv_VAE_MNIST(config), "decoder": Decoder_Conv_AE_MNIST(config)}
    model = VAE(config, **(conv if worker.network() == "conv" else {}))
    plan = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        num_epochs=1,
        learning_rate=worker.LR,
        per_device_train_batch_size=worker.BATCH,
        optimizer_cls="Adam",
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.ones(len(x))), training_config=plan)
    trainer.prepare_training()

    def weights() -> dict[str, np.ndarray]:
        if worker.network() == "conv":
            return {}
        tensors = {key: value.detach().cpu().numpy() for key, value in trainer.model.state_dict().items()}
        places = {"enc": "encoder.layers.0.0", "mu": "encoder.embedding", "lv": "encoder.log_var"}
        places |= {"dec": "decoder.layers.0.0", "out": "decoder.layers.1.0"}
        made = {f"{name}_w": tensors[f"{place}.weight"].T for name, place in places.items()}
        return made | {f"{name}_b": tensors[f"{place}.bias"] for name, place in places.items()}

    worker.serve(lambda: trainer.train_step(1), weights)


if __name__ == "__main__":
    main()
