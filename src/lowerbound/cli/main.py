"""The command line: finds the command, runs it, and turns errors into messages and exit codes.

Nothing here imports torch, so that `lowerbound --help` answers at once.
"""

import errno
import importlib
import io
import os
import sys
import tempfile
import traceback
from difflib import get_close_matches
from pathlib import Path

from .._version import __version__
from ..core.errors import LowerboundError, memory_is_full

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "train a VAE on MNIST, evaluate it and draw pictures"),
    "data": ("data", "list the data sets, or inspect one: lowerbound data photos/"),
    "recipes": ("recipes", "list the recipes, or show one"),
    "parts": ("show_parts", "list the parts that train can put into a recipe, or show one"),
    "train": ("train", "train a recipe: lowerbound train vae --data mnist"),
    "resume": ("resume", "go on with a run that was cut off, or give a finished one more epochs"),
    "sweep": ("sweep", "train a recipe over a grid of options and several seeds, and compare"),
    "fit-prior": ("fit_prior", "fit another prior to the codes of a run's model"),
    "evaluate": ("evaluate", "ELBO, distortion, rate, NLL and bits/dim of a run; more by --also"),
    "doctor": ("doctor", "what is wrong with a run's model, and the command that repairs it"),
    "outliers": ("outliers", "which scores tell other data from a run's own (AUROC)"),
    "score": ("score", "nats of each row of data"),
    "sample": ("sample", "draw new examples from a run"),
    "reconstruct": ("reconstruct", "encode and decode examples by a run"),
    "denoise": ("denoise", "clean corrupted or hazy examples by a run"),
    "translate": ("translate", "one modality of examples from others: translate RUN --given label --to image"),
    "encode": ("encode", "codes of examples"),
    "decode": ("decode", "examples from codes"),
    "interpolate": ("interpolate", "examples on the way from one to another"),
    "traverse": ("traverse", "examples along single latent dimensions"),
    "manifold": ("manifold", "the grid of examples that two latent dimensions span"),
    "runs": ("runs", "list the runs"),
    "compare": ("compare", "two or more runs side by side"),
    "track": ("track", "tell TensorBoard, W&B, MLflow or trackio of a run: lowerbound track last --to tensorboard"),
    "report": ("report", "one HTML file about a run"),
    "cite": ("cite", "BibTeX of what a run or a recipe stands on"),
    "export-config": ("export_config", "the options of a run or recipe as a file for train --config"),
}
USAGE = "\n".join(
    [
        "usage: lowerbound COMMAND [options]",
        "",
        "Train, evaluate, explore and ship variational autoencoders.",
        "",
        "commands:",
        *(f"  {name:<15}{text}" for name, (_, text) in COMMANDS.items()),
        "",
        "lowerbound COMMAND --help tells more. RUN is a path, a name under runs/, or `last`.",
        "Results go to standard output, talk to standard error.",
        "exit codes: 0 done; 2 usage or data; 3 training failed; 4 damaged file; 5 disk or memory; "
        "6 a process lost; 130 interrupted; 143 terminated; 1 a bug of lowerbound",
    ]
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(words)
        sys.stdout.flush()
    except LowerboundError as error:
        _tell(f"error: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        _tell("interrupted")
        code = 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        _drop_output()
        code = 0
    except OSError as error:
        code = _system_error(error, words)
        if error.filename is None:
            _drop_output()
    except (MemoryError, RuntimeError) as error:
        code = _memory_error(error, words)
    except Exception:
        code = _report_bug(words)
    sys.exit(code)


def run(words: list[str]) -> int:
    """Run one command and return its exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE + "\n")
        return 0
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"lowerbound {__version__}\n")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        _tell(f"error: there is no command {name!r}")
        _tell(f"  fix      did you mean {near[0]}?" if near else "  fix      lowerbound --help lists them")
        return 2
    module = importlib.import_module(f".{COMMANDS[name][0]}", __package__)
    return module.command(rest) or 0


def _drop_output() -> None:
    """Flush what can be written; what cannot be goes nowhere, or Python would complain of it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def _system_error(error: OSError, words: list[str]) -> int:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        _tell(f"error: the disk is full: {error}\n  fix      free space and try again")
        return 5
    if error.filename is None:
        return _report_bug(words)
    _tell(f"error: {error.filename}: {error.strerror}\n  fix      check the path and its permissions")
    return 2


def _memory_error(error: Exception, words: list[str]) -> int:
    if not memory_is_full(error):
        return _report_bug(words)
    _tell("error: the memory is full")
    _tell("  fix      use a smaller model, fewer rows or a smaller --batch-size")
    return 5


def _report_bug(words: list[str]) -> int:
    text = f"lowerbound {__version__}\ncommand: lowerbound {' '.join(words)}\n\n{traceback.format_exc()}"
    handle, path = tempfile.mkstemp(prefix="lowerbound-error-", suffix=".txt")
    os.close(handle)
    Path(path).write_text(text, encoding="utf-8")
    _tell(traceback.format_exc())
    _tell(f"error: this is a bug in lowerbound; the report is in {path}")
    return 1
