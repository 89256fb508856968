"""Reading ahead: rows on disk are read in a thread of their own, while the batches before them are being used."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from torch import Tensor

from .dataset import Dataset
from .stored import Stored

AHEAD_BYTES, AHEAD = 64 << 20, 16  # of rows that are read and wait, and batches of them


def ahead(data: Dataset, batches: Iterable[Tensor]) -> Generator[tuple[Dataset, Tensor | slice]]:
    """Yield rows and an index for each of the `batches` of row numbers, such that `rows.batch(index)` is the batch.

    Rows in memory are the data themselves; those on disk come read. Nothing is drawn here: what a batch draws depends
    on the generator when it is made. Close the iterator to stop the thread; what goes wrong in it is raised here.

    Raises:
        DataError: if rows can no longer be read.
    """
    if not isinstance(data.x, Stored):
        for index in batches:
            yield data, index
        return
    bare = replace(data, grey=None)  # training shows no row that was drawn once beside what it was drawn from
    waiting: deque[Future[Dataset]] = deque()
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        try:
            for index in batches:
                waiting.append(pool.submit(bare.fetch, index))
                if len(waiting) > max(1, min(AHEAD, AHEAD_BYTES // (len(index) * data.x.source.row_bytes))):
                    yield waiting.popleft().result(), slice(None)
            while waiting:
                yield waiting.popleft().result(), slice(None)
        finally:
            for future in waiting:
                future.cancel()
