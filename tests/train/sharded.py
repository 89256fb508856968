"""What each of two processes does in test_sharding.py; the first one writes what came out as JSON.

torchrun --standalone --nproc-per-node=2 sharded.py FOLDER [recipes]
"""

import json
import sys
from contextlib import nullcontext
from inspect import signature
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # where the data of recipes are

import torch
from joint_parts import CPU, ROWS, Elsewhere, Full, Partial, Tally, batch_of, every
from torch.distributed.tensor import DTensor
from training_parts import Rivals, data, recipe, weights

import lowerbound as lb
from lowerbound.core.errors import Incompatible, LowerboundError
from lowerbound.core.recipe import RECIPES, Training
from lowerbound.objectives import ELBO, GECO, IWAE, MMD, RAE, STL, Hamiltonian
from lowerbound.train import judging
from lowerbound.train.loop import Loop
from lowerbound.train.processes import ALONE, join
from lowerbound.train.sharding import Sharded
from lowerbound.train.update import Cast, Guard, Pieces, make_optimizers, update
from recipe_data import digits_for

STEPS = 3
randn = torch.randn


def steps(objective, processes, rows=ROWS, *, made=None, shard=None, weighted=False, micro=None, **options):
    """Return weights, state and parts of the weights after steps with noise of each row, and steps left out."""
    of = data()
    made = recipe(of, objective) if made is None else made
    model, built = made.build(3)
    batch = batch_of(of, made, weighted).rows(slice(0, rows))
    noise = randn(7, ROWS, 8, generator=torch.Generator().manual_seed(1))
    training = Training(**{"optimizer": "sgd", "lr": 0.01, **options})
    optimizers, guard = make_optimizers(built.players(model), training), Guard(CPU)
    probe = of.train.matching(made.spec).batch(slice(0, 2))
    sharded = None if shard is None else shard(built, model, optimizers, probe, processes)
    index, counting = processes.part(torch.arange(rows))
    part = batch.rows(slice(int(index[0]), int(index[-1]) + 1))
    position = [0]

    def drawn(size, **options):
        at, position[0] = position[0], position[0] + size[1]
        mine = [int(index[(at + i) % len(index)]) for i in range(size[1])]
        return noise[: size[0], mine, : size[2]].to(**options)

    for step in range(STEPS):
        torch.randn, position[0], at = drawn, 0, torch.tensor(float(step))
        if sharded is None:
            given = (
                training.clip,
                nullcontext,
                training.skip_above,
                None,
                Cast.of(built, model),
                Pieces(micro),
                processes,
            )
            update(built, model, optimizers, part, at, guard, *given, counting)
        else:
            how = (counting, rows), micro, training.clip, nullcontext, training.skip_above
            sharded.update(part, at, guard, *how)
        torch.randn = randn
    here = sum(p.numel() for p in (model.parameters() if sharded is None else sharded.leaves.values()))
    moved = {
        f"{name}.{n}": t for name, m in (("model", model), ("objective", built)) for n, t in m.state_dict().items()
    }
    whole = {n: (t.full_tensor() if isinstance(t, DTensor) else t).double() for n, t in moved.items()}
    moments = sum(v.numel() for o in optimizers.values() for s in o.state.values() for v in s.values() if v.ndim)
    return whole, {"here": here, "moments": moments, "left_out": int(guard.left_out)}


class Careless(Sharded):
    """Divided weights whose gradients are averaged as if all processes had as many rows."""

    def _pieces(self, batch, counting, total, micro_batch):
        for piece, _ in super()._pieces(batch, counting, total, micro_batch):
            yield piece, total / self.processes.size


def apart(one, other):
    """Return the largest difference over all tensors, relative to the largest value."""
    scale = max(float(value.abs().max()) for value in one.values())
    return max(float((one[n] - other[n]).abs().max()) for n in one) / scale


def agree(processes):
    """Compare weights after several steps of divided weights with those of two whole copies, and of one process."""

    def of(name, **options):
        return {"objective": None, "made": getattr(lb.recipes, name)(data().spec, latent_dim=2, hidden=(6,), **options)}

    cases = {
        "uneven rows": {"objective": ELBO()},
        "row weights": {"objective": ELBO(), "weighted": True},
        "several samples": {"objective": IWAE(7), "rows": 8},
        "one row": {"objective": GECO(0.2), "rows": 1},
        "clipped": {"objective": ELBO(), "clip": 1.0},
        "left out": {"objective": ELBO(), "skip_above": 1.0},
        "adamax": {"objective": ELBO(), "optimizer": "adamax", "weight_decay": 0.1},
        "adam": {"objective": ELBO(), "optimizer": "adam"},
        "pieces": {"objective": ELBO(), "micro": 2},
        "state": {"objective": GECO(0.2)},
        "state of one row": {"objective": Tally(), "rows": 1},
        "own weights": {"objective": Elsewhere()},
        "a weight that one process reaches": {"objective": Partial()},
        "a learned scale": of("gaussian_vae"),
        "pseudo-inputs": of("vamp", pseudo_inputs=5),
    }
    found = {}
    for name, case in cases.items():
        alone, _ = steps(processes=ALONE, **case)
        together, counts = steps(processes=processes, **case)
        divided, parts = steps(processes=processes, shard=Sharded, **case)
        found[name] = {"alone": apart(alone, divided), "together": apart(together, divided), "counts": [counts, parts]}
    careless, _ = steps(ELBO(), processes, shard=Careless)
    return {"cases": found, "careless": apart(steps(ELBO(), ALONE)[0], careless)}


def said(function, *args, **options):
    """Return what an error says, or "" without one."""
    try:
        function(*args, **options)
    except LowerboundError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def refused(processes):
    """Return what is said of trainings whose weights cannot be divided."""
    of = data()
    cases = {
        "players": (recipe(of, Rivals()), {}),
        "rescores": (recipe(of, STL()), {}),
        "moves": (recipe(of, Hamiltonian()), {}),
        "batch": (recipe(of, MMD()), {}),
        "stateful": (lb.recipes.rae(of.spec, kind="spectral_norm", latent_dim=2, hidden=(6,)), {}),
        "ema": (recipe(of), {"ema": 0.9}),
        "compiled": (recipe(of), {"kernels": "compiled"}),
        "watchers": (recipe(of), {"watchers": (lambda model, epoch: None,)}),
        "weights outside": (recipe(of, RAE(decoder="l2")), {}),
        "a jacobian": (recipe(of, RAE()), {}),
        "memory": (recipe(of, Full()), {}),
    }
    return {name: said(lb.fit, made, of, shard=True, progress=False, **how) for name, (made, how) in cases.items()}


def trained(folder):
    """Train with run folders: at once, in two halves, and in halves of which one has whole weights."""
    of = data()
    made = recipe(of, clip=50.0)
    quiet = {"progress": False, "report": False}

    def train(name, shard, epochs=4):
        return lb.fit(made, of, epochs=epochs, shard=shard, seed=4, out=folder / name, **quiet)

    runs = {"divided": train("divided", True), "whole": train("whole", False)}
    for name, first, then in (("halves", True, None), ("opened", True, False), ("closed", False, True)):
        train(name, first, 2)
        runs[name] = lb.resume(folder / name, of, epochs=4, shard=then, **quiet)
    mine = {name: b"".join(weights(run.model).values()) for name, run in runs.items()}
    whole = runs["whole"].model.state_dict()
    found = {
        "same": all(one == mine for one in every(mine)),
        "wrote": runs["divided"].folder is not None,
        "equal": mine["halves"] == mine["divided"],
        "apart": {name: apart(run.model.state_dict(), whole) for name, run in runs.items()},
        "scores": [[event["elbo"] for event in runs[name].history] for name in ("divided", "whole")],
        "plain": all(
            type(m).__module__.startswith(("lowerbound", "torch.nn")) for m in runs["divided"].model.modules()
        ),
    }
    if found["wrote"]:
        found["loaded"] = b"".join(weights(lb.load(folder / "divided")).values()) == mine["divided"]
    return found


def validated(processes):
    """Return the validation terms of 10 rows in 3 blocks, divided among two processes and in one."""
    judging.EVAL_ROWS = 4
    of = data()
    loop = Loop(recipe(of), of, 0, CPU, processes=processes, shard=True)
    loop._divide()
    alone = Loop(recipe(of), of, 0, CPU)
    scores = [judging.validate(each.learner, each.rows.valid, 0, 0) for each in (alone, loop)]
    return {"rows": len(of.valid), "alone": scores[0], "together": scores[1]}


def recipes():
    """Train every recipe with divided and with whole weights: how far they come apart, and how far they went."""
    found = {}
    small = {"latent_dim": 2, "pseudo_inputs": 7, "components": 3, "hidden": (6,)}
    for name, function in sorted(RECIPES.items()):
        digits = digits_for(name)
        of = lb.Data(digits.train.take(60), digits.valid.take(20), digits.test.take(5))
        known = signature(function).parameters
        options = {k: v for k, v in small.items() if k in known and isinstance(v, type(known[k].default))}
        made = function(of.spec, **options).replace(after=())
        plan = {"batch_size": 17, "optimizer": "sgd", "lr": 0.05, "clip": 1.0, "lr_warmup": 0, "progress": False}

        def train(epochs, shard, made=made, plan=plan, of=of):
            return lb.fit(made, of, epochs=epochs, shard=shard, **plan).model.state_dict()

        try:
            divided = train(2, True)
        except Incompatible as error:
            found[name] = {"said": str(error).splitlines()[0]}
        else:
            whole = train(2, False)
            found[name] = {"apart": apart(whole, divided), "moved": apart(whole, train(0, False))}
    return found


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    processes = join(None, "cpu", 60.0)
    found = (
        {"recipes": recipes()}
        if "recipes" in sys.argv
        else {
            "agree": agree(processes),
            "refused": refused(processes),
            "trained": trained(folder),
            "validated": validated(processes),
        }
    )
    if processes.first:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
