"""Run a test against a copy of the package with a bug in it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mutants import Mutant

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "src" / "lowerbound"
TIMEOUT = 900.0


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Args:
        mutant: which.
        killed: True if its test failed, on the copy with the bug.
        seconds: how long that took.
        output: what pytest said.
    """

    mutant: Mutant
    killed: bool
    seconds: float
    output: str


def patched(mutant: Mutant) -> str:
    """Return the mutant's file with the bug in it; fails unless the place is found exactly once."""
    source = (PACKAGE / mutant.file).read_text(encoding="utf-8")
    count = source.count(mutant.old)
    assert count == 1, f"{mutant.name}: {count} places in {mutant.file} are as the patch expects"
    return source.replace(mutant.old, mutant.new)


def run_tests(source: Path, *tests: str) -> tuple[int, str]:
    """Run tests, as pytest names them under `tests`, with the package in `source`; return exit code and output."""
    options = ("-q", "-x", "-p", "no:cacheprovider", "-p", "museum_origin", "--tb=line")
    paths = os.pathsep.join([str(source), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout + done.stderr


def kill(mutant: Mutant) -> Verdict:
    """Put the bug into a copy of the package and run the test that should fail."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "lowerbound"
        shutil.copytree(PACKAGE, copy)
        (copy / mutant.file).unlink()  # a new file: whatever is cached of the old one does not count
        (copy / mutant.file).write_text(patched(mutant), encoding="utf-8")
        code, output = run_tests(copy.parent, mutant.test)
        ours = f"lowerbound is {copy / '__init__.py'}" in output
    failed = re.search(rf"^FAILED tests/{re.escape(mutant.test)}(\[| |$)", output, re.MULTILINE)
    return Verdict(mutant, code == 1 and ours and failed is not None, time.perf_counter() - started, output)
