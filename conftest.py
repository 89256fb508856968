"""Run tests and doctests with shapes checked: every jaxtyping annotation of the package is executed."""

import os
import subprocess

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' tensors are small: more threads only wait for each other

import annotations

annotations.install()

import pytest  # noqa: E402
import torch  # noqa: E402

# Files of many seconds, which must not be the last that one of two processes begins.
LONG = ("test_bad_inputs.py", "test_every_recipe.py", "test_every_pair.py")


def pytest_collection_modifyitems(items):
    """Begin with the long files."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def fixed_seed():
    """Start each test from the same generator state, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def server():
    """Runs commands as processes of their own: `tests/forks.py`."""
    from forks import Server

    made = Server()
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a real disk of a size such as "300k"; the test is skipped where none can be."""
    made = []

    def mounted(size):
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
        made.append(folder)
        return folder

    yield mounted
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def told(capsys):
    """Run a command in process; returns exit code, standard output and standard error."""
    from lowerbound.cli.main import main

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(words))
        out, err = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 1), out, err

    return run
