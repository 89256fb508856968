"""Every error a user can meet, each with its exit code and one sentence of what to do."""

from typing import Any, ClassVar

_MEMORY_IS_FULL = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")


def memory_is_full(error: BaseException) -> bool:
    """Tell whether an error says that no memory was left; torch's allocators raise RuntimeError, told by its text."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _MEMORY_IS_FULL)


class LowerboundError(Exception):
    """Base of all errors raised on purpose; the message says what, where, what was expected, what to do.

    Args:
        what: what happened, one sentence.
        where: the file, option or part concerned.
        expected: what would have been right.
        fix: what the user can do.
    """

    exit_code: ClassVar[int] = 2
    usual_fix: ClassVar[str] = ""  # said where neither `expected` nor `fix` is given

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        lines = [what]
        fix = fix or ("" if expected else self.usual_fix)
        for label, text in (("where", where), ("expected", expected), ("fix", fix)):
            if text:
                lines.append(f"  {label:<9}{text}")
        super().__init__("\n".join(lines))


class UsageError(LowerboundError):
    """An option or argument has an impossible value (exit 2)."""


class DataError(LowerboundError):
    """The data cannot be read or do not fit the model (exit 2)."""


class ShapeError(LowerboundError):
    """A tensor or part has another shape than its neighbour expects (exit 2)."""


class Incompatible(LowerboundError):
    """Parts that cannot mean anything together, refused by name when the recipe is built (exit 2)."""


class NoDensity(LowerboundError):
    """A density was asked of a model that has none (exit 2)."""


class TrainingFailed(LowerboundError):
    """Training met a number that is not finite; `run` holds the last good state (exit 3)."""

    exit_code = 3
    run: Any = None


class CorruptArtifact(LowerboundError):
    """A saved file is damaged, incomplete or not what it claims to be (exit 4)."""

    exit_code = 4
    usual_fix = "use an earlier copy of it, or train again"


class OutOfResource(LowerboundError):
    """Disk or memory ran out (exit 5)."""

    exit_code = 5
    usual_fix = "free some of it, or ask for less, and try again"


class ProcessLost(LowerboundError):
    """Another process of the same training ended, or no longer answers (exit 6)."""

    exit_code = 6
    usual_fix = "go on from the last checkpoint: lowerbound resume RUN"
