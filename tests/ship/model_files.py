"""A small saved model, and ways to change its files as damage or a forger would."""

import hashlib
import json

import torch
from safetensors.torch import load_file, save_file

from lowerbound import load_data, recipes, save

FILES = ("config.json", "model.safetensors")


def small_model(name="vae", **options):
    """Return an untrained model of the digits."""
    return getattr(recipes, name)(load_data("digits").spec, **{"latent_dim": 3, "hidden": (7,), **options}).build(5)[0]


def saved(folder):
    """Save a small model to `folder` and return the folder."""
    return save(small_model(), folder / "model", recipe="vae", options={"latent_dim": 3, "hidden": (7,)})


def sign(folder):
    """Write the manifest that fits the files, as a forger would."""
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": sums}))


def forge_config(folder, change):
    """Apply `change` to the parsed config.json and sign it."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    sign(folder)


def forge_weights(folder, change):
    """Apply `change` to the dictionary of weights and sign it."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file({name: torch.as_tensor(tensor).contiguous() for name, tensor in weights.items()}, folder / FILES[1])
    sign(folder)


def encoder_arguments(config):
    """Return the recorded arguments of the encoder's network."""
    return config["model"]["args"]["encoder"]["args"]["networks"][0]["args"]
