"""Noise that belongs to the rows of a batch, whoever passes them, and two processes that share one machine's memory."""

import threading

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lowerbound.train.processes import Processes, packed, unpack

PATIENCE = 60.0  # seconds
LOCK = threading.Lock()  # there is one default generator


class RowNoise(TorchDispatchMode):
    """Draws each random number anew from its place in the pass and the row of the batch that it is for.

    A dimension belongs to the rows if its size is a multiple of their number: several samples of a row stand `rows`
    apart. So the number must be one that no other size is a multiple of.

    Args:
        first: number of the first row that is passed.
        rows: how many are.
    """

    def __init__(self, first, rows):
        super().__init__()
        self.first, self.rows, self.count = first, rows, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        self.count += 1
        shape = args[0].shape if torch.is_tensor(args[0]) else args[0]
        dim = next((i for i, size in enumerate(shape) if size and size % self.rows == 0), None)
        with LOCK:
            if dim is None:
                torch.default_generator.manual_seed(self.count)
                return func(*args, **kwargs)
            return self._by_rows(func, args, kwargs, shape, dim)

    def _by_rows(self, func, args, kwargs, shape, dim):
        made = []
        for row in range(self.rows):
            torch.default_generator.manual_seed(1_000_003 * self.count + self.first + row)
            made.append(func(*(self._of_row(a, row, shape, dim) for a in args), **kwargs))
        if func._schema.name.endswith("_"):  # each row was changed in place
            return args[0]
        return torch.stack(made, dim + 1).flatten(dim, dim + 1)

    def _of_row(self, value, row, shape, dim):
        if torch.is_tensor(value) and value.shape == torch.Size(shape):
            return value[(*[slice(None)] * dim, slice(row, None, self.rows))]
        if isinstance(value, list | tuple) and list(value) == list(shape):
            return [size // self.rows if i == dim else size for i, size in enumerate(value)]
        return value


class Beside(Processes):
    """One of two threads that do what two processes would; what they exchange is added up in memory."""

    size = 2

    def __init__(self, rank, sent, barrier):
        self.rank, self.sent, self.barrier = rank, sent, barrier

    def average(self, parameters, rows, numbers):
        self.sent[self.rank] = packed(parameters, rows, numbers)
        self.barrier.wait(PATIENCE)
        return unpack(parameters, self.sent[0] + self.sent[1], numbers)


def both(work):
    """Return what `work(processes)` gives in each of two threads."""
    sent, barrier, made = [None, None], threading.Barrier(2), [None, None]

    def run(rank):
        try:
            made[rank] = work(Beside(rank, sent, barrier))
        except BaseException as error:
            barrier.abort()
            made[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [m for m in made if isinstance(m, BaseException)]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return made
