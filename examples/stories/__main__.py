"""Tell the stories: run each experiment, print what it finds, and write its pictures and pages.

`python examples/stories` tells all of them and writes the verdicts on the seeds' claims; `python examples/stories
b_without_kl --out FOLDER` tells one, and with `--small` in seconds, to see that it runs.
"""

import argparse
import platform
import shlex
import sys
import time
from importlib import import_module
from pathlib import Path

import torch
from claims import write_claims
from story import Story, write_story

HERE = Path(__file__).parent
STORIES = sorted(path.stem for path in HERE.glob("[a-z]_*.py"))
DOCS = HERE.parent.parent / "docs" / "stories"


def tell(name: str, out: Path, *, small: bool) -> Story:
    """Run one story and write what it finds below `out`."""
    story = Story(name, small)
    story.say(f"== {name} {'(small)' if small else ''}")
    started = time.perf_counter()
    import_module(name).tell(story)
    seconds = time.perf_counter() - started
    command = shlex.join(["python", "examples/stories", name, *(["--small"] if small else [])])
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    write_story(story, out, {"command": command, "seconds": round(seconds, 1), "machine": machine, "small": small})
    story.say(f"{name}: {seconds:.0f} s; in {out}\n")
    return story


def main() -> int:
    """Run the stories that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="STORY", help=f"which (default: all): {', '.join(STORIES)}")
    parser.add_argument("--out", type=Path, default=DOCS, help="where to write (default: docs/stories)")
    parser.add_argument("--small", action="store_true", help="on little data, to see that they run")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(STORIES))
    if unknown:
        parser.error(f"there is no story {unknown[0]!r}; there are {', '.join(STORIES)}")
    if given.small and given.out == DOCS:
        parser.error("--small would overwrite the pages of the full runs: give --out as well")
    started = time.perf_counter()
    told = [tell(name, given.out, small=given.small) for name in given.names or STORIES]
    if not given.small and given.out == DOCS:
        for path in write_claims(DOCS, DOCS.parent):
            sys.stdout.write(f"saved: {path}\n")
    failed = [(s.name, f.en) for s in told for f in s.findings if not f.holds]
    for name, text in failed:
        sys.stdout.write(f"does not hold ({name}): {text}\n")
    sys.stdout.write(f"{len(told)} stories in {time.perf_counter() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
