"""What each of two processes does in test_processes.py; the first one writes what came out as JSON.

torchrun --standalone --nproc-per-node=2 joined.py FOLDER
"""

import atexit
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from joint_parts import CPU, ROWS, NotFinite, Numbered, Overlapping, Partial, Tally, batch_of, every
from training_parts import Counted, Rivals, data, recipe, weights

import lowerbound as lb
from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Stateful
from lowerbound.core.noise import kept_generators
from lowerbound.core.recipe import Training
from lowerbound.families.optimal import OptimalNormal
from lowerbound.objectives import ELBO, GECO, IWAE, MMD, Lagging
from lowerbound.train import judging, learner
from lowerbound.train.loop import Loop
from lowerbound.train.processes import ALONE, join
from lowerbound.train.run import Stop
from lowerbound.train.update import Guard, make_optimizers, update

randn = torch.randn


class Unweighted(type(ALONE)):
    """Processes whose gradients are averaged as if all had as many rows: what a careless average would give."""

    def __init__(self, inner):
        self.inner, self.rank, self.size = inner, inner.rank, inner.size

    def average(self, parameters, rows, numbers):
        return self.inner.average(parameters, 1, numbers)


def one_step(objective, processes, rows, *, weighted=False, step=0, family=None):
    """Return gradients, buffers and the guard's word after a step on the first `rows` rows, with noise of each row."""
    of = data()
    made = recipe(of, objective)
    model, built = made.build(3)
    if family is not None:
        model.decoder.family = family()
    batch = batch_of(of, made, weighted).rows(slice(0, rows))
    noise = randn(7, ROWS, 2, generator=torch.Generator().manual_seed(1))
    index, counting = processes.part(torch.arange(rows))
    torch.randn = lambda size, **options: noise[: size[0], index].expand(size).to(**options)
    optimizers = make_optimizers(built.players(model), Training(optimizer="sgd", lr=0.25))
    guard = Guard(CPU)
    part = batch.rows(slice(int(index[0]), int(index[-1]) + 1))
    at = torch.tensor(float(step))
    update(built, model, optimizers, part, at, guard, processes=processes, counting=counting)
    torch.randn = randn
    named = [*model.named_parameters(), *((f"objective.{n}", p) for n, p in built.named_parameters())]
    gradients = {name: None if p.grad is None else p.grad.double() for name, p in named}
    moved = {name: p.detach().clone() for name, p in named}
    modules = (*model.modules(), *built.modules())
    state = [value.double() for m in modules if isinstance(m, Stateful) for value in m.buffers()]
    return gradients, moved, state, guard.failed()


def apart(one, other):
    """Return the largest difference over all gradients, relative to the largest gradient; inf if one has none."""
    if {n for n, g in one.items() if g is None} != {n for n, g in other.items() if g is None}:
        return float("inf")
    known = [n for n, g in one.items() if g is not None]
    scale = max(float(one[n].abs().max()) for n in known)
    return max(float((one[n] - other[n]).abs().max()) for n in known) / scale


def gradients(processes):
    """Compare steps of two processes with those of one, for each kind of players."""
    cases = {
        "one player": (ELBO(), 9, False, 0),
        "one player, weighted": (ELBO(), 9, True, 0),
        "one player, several samples": (IWAE(7), 8, False, 0),
        "two players": (Rivals(), 9, False, 0),
        "overlapping players": (Overlapping(), 9, False, 0),
        "overlapping players, one rests": (Overlapping(), 9, False, 1),
        "split players": (Lagging(), 9, False, 0),
        "a multiplier": (GECO(0.2), 9, False, 0),
        "fewer rows than processes": (ELBO(), 1, False, 0),
        "a gradient in one process alone": (Partial(), 9, False, 0),
    }
    found = {}
    for name, (objective, rows, weighted, step) in cases.items():
        how = {"weighted": weighted, "step": step}
        alone, together = (one_step(objective, who, rows, **how) for who in (ALONE, processes))
        found[name] = max(every(apart(alone[0], together[0])))
    careless = one_step(ELBO(), Unweighted(processes), 9)
    return {"apart": found, "unweighted": apart(one_step(ELBO(), ALONE, 9)[0], careless[0])}


def states(processes):
    """Return how far state that learns from sums over rows is from that of one process."""
    found = {}
    for name, objective, family, rows in (
        ("multiplier", GECO(0.2), None, 9),
        ("rows", Tally(), None, 9),
        ("one row", Tally(), None, 1),
        ("variance", ELBO(), lambda: OptimalNormal((1, 5, 7)), 9),
        ("count", Counted(), None, 9),
    ):
        alone, together = (one_step(objective, who, rows, family=family)[2] for who in (ALONE, processes))
        apart = max(float((a - b).abs().max()) for a, b in zip(alone, together, strict=True))
        found[name] = max(every(apart))
    return found


def stopped(processes):
    """Return what the guard says of a number that is not finite in the second process alone, and if a weight moved."""
    _, moved, _, failed = one_step(NotFinite(), processes, ROWS)
    start = dict(recipe(data(), NotFinite()).build(3)[0].named_parameters())
    return {"failed": failed, "moved": any(not torch.equal(moved[n], p) for n, p in start.items())}


def validated(processes):
    """Return the validation terms of 1001 rows in blocks of 100, of two processes and of one."""
    judging.EVAL_ROWS = 100
    x = np.random.default_rng(3).integers(0, 256, (2002, 5, 7), dtype=np.uint8)
    of = lb.from_arrays(x, valid_fraction=0.5 / 0.95, test_fraction=0.05)
    of = lb.Data(of.train.take(50), lb.Dataset.rows(of.valid, slice(0, 1001)), of.test)
    made = recipe(of)
    loops = [Loop(made, of, 0, CPU, processes=who) for who in (ALONE, processes)]
    scores = [judging.validate(loop.learner, loop.rows.valid, 0, 0) for loop in loops]
    return {"rows": len(of.valid), "alone": scores[0], "together": scores[1]}


def counted(processes):
    """Return an epoch's mean of a number that each row has, of two processes and of one; the last batch is one row."""
    x = np.arange(45.0)[:, None] ** 2
    of = lb.from_arrays(x, valid_fraction=0.0, test_fraction=0.0)
    made = recipe(of, Numbered(), batch_size=11, epochs=1)
    loops = [Loop(made, of, 0, CPU, processes=who) for who in (ALONE, processes)]
    return [loop._epoch(Stop())["elbo"] for loop in loops]


def noise(processes):
    """Return how many numbers, and how many different ones, both processes drew at the beginning of their steps."""
    drawn, original = [], learner.update

    def noted(*arguments):
        with kept_generators():
            drawn.append(float(torch.rand(())))
        return original(*arguments)

    of = data()
    learner.update = noted
    Loop(recipe(of), of, 0, CPU, processes=processes)._epoch(Stop())
    learner.update = original
    both = [number for of_one in every(drawn) for number in of_one]
    return [len(both), len(set(both))]


def pieces(processes):
    """Return the rows of a piece in each process, before and after they cut alike, if only the second was cut."""
    of = data()
    made = Loop(recipe(of), of, 0, CPU, processes=processes).learner
    made.cut_alike()
    whole = every(made.pieces.rows)
    made.cut_into(None if processes.first else 3)
    before = every(made.pieces.rows)
    made.cut_alike()
    return [whole, before, every(made.pieces.rows)]


def refused(processes):
    """Return what is said of an objective that couples the batch."""
    of = data()
    try:
        Loop(recipe(of, MMD()), of, 0, CPU, processes=processes)
    except Incompatible as error:
        return str(error)
    return ""


def trained(folder):
    """Train with a run folder, and return whether all processes ended with the same weights."""
    of = lb.load_data("digits")
    made = lb.recipes.vae(of.spec, latent_dim=3, hidden=(24,))
    run = lb.fit(made, of, epochs=3, batch_size=64, seed=4, out=folder / "run", progress=False, report=False)
    mine = b"".join(weights(run.model).values())
    return {"same": all(one == mine for one in every(mine)), "wrote": every(run.folder is not None)}


def connected(folder):
    """Write whether this process is still connected to the other when the interpreter begins to be taken down."""
    connection = "open" if torch.distributed.is_initialized() else "closed"
    (folder / f"at-the-end-{os.environ['RANK']}.txt").write_text(connection)


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    atexit.register(connected, folder)
    processes = join(None, "cpu", 60.0)
    found = {
        "processes": processes.size,
        "gradients": gradients(processes),
        "states": states(processes),
        "stopped": stopped(processes),
        "validated": validated(processes),
        "counted": counted(processes),
        "noise": noise(processes),
        "pieces": pieces(processes),
        "refused": refused(processes),
        "trained": trained(folder),
    }
    if processes.first:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
