"""Damaged and forged files: each is a corrupt artifact that says which file, before memory is spent or code is run."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from model_files import encoder_arguments, forge_config, forge_weights, saved, sign

from lowerbound import load
from lowerbound.core.errors import CorruptArtifact

WEIGHT = "encoder.networks.0.out.weight"


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path)


def refused(folder, *words):
    before = torch.get_rng_state()
    with pytest.raises(CorruptArtifact) as caught:
        load(folder)
    assert caught.value.exit_code == 4
    for word in words:
        assert word in str(caught.value), caught.value
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "truncated", "flipped", "replaced by a folder"])
def test_damage_to_each_file_names_the_file(name, damage, folder):
    file = folder / name
    content = bytearray(file.read_bytes())
    if damage in ("removed", "replaced by a folder"):
        file.unlink()
        if damage != "removed":
            file.mkdir()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes({"emptied": b"", "truncated": content[: len(content) // 2], "flipped": bytes(content)}[damage])
    if name == "MANIFEST.json" and damage == "flipped":
        refused(folder)  # a flipped letter of a name or a sum: some file is missing or does not fit
    else:
        refused(folder, name, str(folder))


def test_a_run_folder_whose_model_lost_its_description_names_that_file(folder):
    (folder / "config.json").unlink()
    refused(folder.parent, "config.json", str(folder))


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {}}',
        '{"files": {"config.json": 5}}',
        '{"files": {"": ""}}',
        "\xff\xfe",
    ],
)
def test_a_manifest_that_does_not_vouch_for_every_file(manifest, folder):
    (folder / "MANIFEST.json").write_bytes(manifest.encode("latin-1"))
    refused(folder, str(folder))


def test_a_file_that_the_manifest_does_not_list_is_not_trusted(folder):
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["files"]["model.safetensors"]
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    refused(folder, "model.safetensors")


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000 + "]" * 100_000, "null", "[1]", '{"format": 2}', '{"format": NaN}']
)
def test_a_signed_description_that_is_none(text, folder):
    (folder / "config.json").write_text(text)
    sign(folder)
    refused(folder, "config.json")


def test_a_description_that_says_two_things_is_refused(folder):
    # Readers differ in which of two equal keys they take, so a file with both can mean one thing to each.
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"format": 1', '"format": 7, "format": 1'))
    sign(folder)
    refused(folder, "config.json", "format")


@pytest.mark.parametrize(
    "model",
    [None, 5, "VAE", [], {"part": "VAE"}, {"part": "os.system", "args": {"command": "false"}},
     {"part": "VAE", "args": {}}, {"part": "MLP", "args": {"in_shape": [3], "out_shape": [2]}}],
)  # fmt: skip
def test_a_description_of_no_vae(model, folder):
    forge_config(folder, lambda config: config.update(model=model))
    refused(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden", [-5]), ("hidden", [0]), ("hidden", "seven"), ("hidden", None), ("activation", "sigh"),
     ("in_shape", None), ("dropout", 7.0), ("colour", "red"), ("hidden", [10**30]),
     ("hidden", {"part": "MLP", "args": {}})],
)  # fmt: skip
def test_arguments_that_no_constructor_takes(name, value, folder):
    forge_config(folder, lambda config: encoder_arguments(config).update({name: value}))
    refused(folder, "MLP")


def test_weights_of_another_shape_are_listed_side_by_side(folder):
    def change(weights):
        weights[WEIGHT] = weights[WEIGHT][:, :4]
        weights["decoder.network.extra"] = torch.zeros(2, 9)
        del weights["encoder.networks.0.out.bias"]

    forge_weights(folder, change)
    refused(
        folder,
        f"{WEIGHT}: (6, 4) in the file, (6, 7) in the model",
        "decoder.network.extra: (2, 9) in the file, none in the model",
        "encoder.networks.0.out.bias: missing in the file, (6,) in the model",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value, folder):
    def change(weights):
        weights[WEIGHT][3, 2] = value

    forge_weights(folder, change)
    refused(folder, WEIGHT, "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 200, b"\x02\0\0\0\0\0\0\0{}", b"\x80\x04\x95pickle"])
def test_signed_weights_that_are_no_safetensors(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    sign(folder)
    refused(folder, "model.safetensors" if content[:1] != b"\x02" else "missing in the file")


GIGANTIC = """
    import json, resource, sys, time
    from pathlib import Path
    import lowerbound as lb

    folder, what = Path(sys.argv[1]), json.loads(sys.argv[2])
    limit = 2 << 30  # bytes of address space beyond what the imports took
    lb.load(folder)  # what is imported on first use is no part of the measurement
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))
    for where, value in what:
        config = json.loads((folder / "config.json").read_text())
        inside = config["model"]["args"]
        for key in where[:-1]:
            inside = inside[key]
        inside[where[-1]] = value
        forged = folder.with_name("forged")
        forged.mkdir(exist_ok=True)
        (forged / "config.json").write_text(json.dumps(config))
        (forged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        import hashlib
        names = ("config.json", "model.safetensors")
        sums = {name: hashlib.sha256((forged / name).read_bytes()).hexdigest() for name in names}
        (forged / "MANIFEST.json").write_text(json.dumps({"files": sums}))
        started = time.monotonic()
        try:
            lb.load(forged)
            said = "loaded"
        except BaseException as error:
            said = type(error).__name__
        print(json.dumps([said, time.monotonic() - started]))
"""
_ENCODER = ["encoder", "args", "networks", 0, "args"]
_PRIOR = ["groups", 0, "args", "prior_part", "args"]
ASKED = {
    "a layer of a terabyte": [[*_ENCODER, "hidden"], [2**32]],
    "more than can be counted": [[*_ENCODER, "hidden"], [10**10, 10**10]],
    "an input of a terabyte": [[*_ENCODER, "in_shape"], [2**32]],
    "a prior of terabytes, which has no weights": [[*_PRIOR, "event_shape"], [2**40]],
    "a prior of half a gigabyte, which fits no posterior": [[*_PRIOR, "event_shape"], [2**26]],
    "a number where a network belongs": [["decoder", "args", "network"], 5],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Load what ASKED describes in a process with little memory and without the checks of types."""
    folder = saved(tmp_path_factory.mktemp("gigantic"))
    script = textwrap.dedent(GIGANTIC)
    arguments = [sys.executable, "-c", script, str(folder), json.dumps(list(ASKED.values()))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=True)
    return dict(zip(ASKED, (json.loads(line) for line in done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("asked", ASKED)
def test_a_description_that_asks_for_too_much_is_refused_without_allocating(asked, answers):
    said, seconds = answers[asked]
    assert said == "CorruptArtifact"
    assert seconds < 20
