"""The shards of a Hugging Face data set that is streamed, and the runs of rows that are read from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# streams whose shards, one after another, have the rows of the whole: those of take(), for one, would have others
_SHARDED = frozenset(
    f"{name}Iterable"
    for name in (
        *("ArrowExamples", "Examples", "MappedExamples", "FilteredExamples", "SelectColumns", "TypedExamples"),
        *("FormattedExamples", "RebatchedArrowExamples"),
    )
)


@dataclass(frozen=True)
class Block:
    """A run of rows of one shard.

    Args:
        part: number of the split.
        shard: number of its shard.
        start: number of the first row in the shard.
        count: number of rows.
        digest: of their values, by which a stream that changes is noticed.
    """

    part: int
    shard: int
    start: int
    count: int
    digest: bytes


class Shards:
    """The shards of a stream: of its files, or of the row groups of Parquet, where a shard has the rows of the whole.

    A stream that does not tell what it is made of, as those of old versions of `datasets`, is one shard.

    Args:
        stream: a `datasets.IterableDataset`.
    """

    def __init__(self, stream: Any) -> None:
        kinds = set(_kinds(stream.state_dict()))
        self._splits = bool(kinds) and kinds <= _SHARDED
        self._stream = stream.reshard() if self._splits and hasattr(stream, "reshard") else stream
        self.count: int = (getattr(self._stream, "num_shards", 0) or self._stream.n_shards) if self._splits else 1

    def __getitem__(self, number: int) -> Any:
        return self._stream.shard(self.count, number) if self._splits else self._stream


def _kinds(state: Any) -> Iterator[str]:
    """Yield what a stream is made of, as its state tells."""
    if isinstance(state, Mapping):
        if isinstance(state.get("type"), str):
            yield state["type"]
        for value in state.values():
            yield from _kinds(value)
    elif isinstance(state, list):
        for value in state:
            yield from _kinds(value)
