"""Pairs of clean and hazy photos, end to end by the commands: SYNTHETIC haze on patches of scikit-learn's photos."""

import importlib.util
import json
from pathlib import Path

import pytest

from lowerbound.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "dehaze.py"
SETTINGS = {"epochs": 6, "batch-size": 16, "lr": 0.004, "latent-dim": 24, "channels": "24 48"}


@pytest.fixture
def example(monkeypatch, capsys):
    """The example as a module, whose commands run in this process."""
    spec = importlib.util.spec_from_file_location("dehaze", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert left.value.code == 0, err
        return out

    monkeypatch.setattr(module, "lowerbound", run)
    return module


def test_output_is_nearer_to_the_clean_photos_than_the_hazy_input(example, tmp_path):
    found = example.dehaze(tmp_path, thickness=2.0, size=16, stride=14, settings=SETTINGS)
    assert found["num"] == 2 * 26 * 9
    assert (tmp_path / "dehazed.png").stat().st_size > 10_000
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["name"] == "conv_vae"
    for name in ("psnr", "ssim"):
        before, after, gain = (found[what][name] for what in ("input", "output", "gain"))
        assert after["mean"] - before["mean"] == pytest.approx(gain["mean"])
        assert gain["mean"] > 4 * gain["se"], (name, before, after)


def test_training_and_test_patches_have_no_pixel_in_common(example):
    assert example.TRAIN[1] <= example.VALID[0] < example.VALID[1] <= example.TEST[0]
    assert example.patches(example.TEST, 24, 24).shape == (2 * 17 * 6, 3, 24, 24)
