"""A memory that does not hold a step on a whole batch: training goes on in pieces, says so, and ends alike."""

import json
import subprocess
import sys

from test_processes import ENVIRONMENT, HERE

# every large block is mapped by itself and given back when it is freed, so that what is free is not in pieces
ALONE = {**ENVIRONMENT, "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "1"}


def test_a_batch_that_the_memory_does_not_hold_is_passed_in_pieces_and_said(tmp_path):
    path = tmp_path / "found.json"
    command = [sys.executable, HERE / "short_of_memory.py", path]
    done = subprocess.run(command, env=ALONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert found["took"] > 100 << 20, "a batch takes enough for a limit below it to leave room for all else"
    assert found["rows"]
    assert all(1 <= rows <= 8192 / 2 for rows in found["rows"])
    assert len(found["said"]) == len(found["rows"])
    assert f"batches are passed in pieces of {found['rows'][-1]} rows" in found["said"][-1]
    assert found["end"] == "done"
    assert found["equal"], "the same pieces without a limit give the same weights"
    assert found["apart"] < 1, "a whole batch gives the same weights but for rounding"
    assert found["moved"] > 100
