"""What each of two processes does in test_sharding.py; the first one writes what came out as JSON.

torchrun --standalone --nproc-per-node=2 sharded.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from joined import CPU, ROWS, batch_of, randn
from torch import nn
from torch.distributed.tensor import DTensor
from training_parts import Counted, Rivals, data, recipe, weights

import lowerbound as lb
from lowerbound.core.errors import LowerboundError
from lowerbound.core.objective import Objective
from lowerbound.core.recipe import Training
from lowerbound.core.record import recorded
from lowerbound.families.optimal import OptimalNormal
from lowerbound.networks import MLP, SpectralNorm
from lowerbound.objectives import ELBO, GECO, IWAE, MMD, RAE, STL, Hamiltonian
from lowerbound.train.checkpoint import checkpoints
from lowerbound.train.loop import Loop
from lowerbound.train.processes import ALONE, join
from lowerbound.train.sharding import Sharded
from lowerbound.train.update import Cast, Guard, Pieces, make_optimizers, update

STEPS = 3


@recorded
class Elsewhere(Objective):
    """The ELBO, with a layer of its own and calls of the model's methods outside its pass."""

    def __init__(self):
        super().__init__()
        self.inner, self.layer = ELBO(), nn.Linear(2, 1)

    def players(self, model):
        return {"model": [*model.parameters(), *self.layer.parameters()]}

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        code = model.infer(batch.x).mean
        outcome.losses["model"] = outcome.losses["model"] + batch.mean(self.layer(code).square()[:, 0])
        return outcome


def steps(objective, processes, rows=ROWS, *, made=None, shard=False, weighted=False, micro=None, **options):
    """Return weights, state and parts of the weights after steps with noise of each row, and steps left out."""
    of = data()
    made = recipe(of, objective) if made is None else made
    model, built = made.build(3)
    batch = batch_of(of, made, weighted).rows(slice(0, rows))
    noise = randn(7, ROWS, 8, generator=torch.Generator().manual_seed(1))
    training = Training(**{"optimizer": "adam", "lr": 0.02, **options})
    optimizers, guard = make_optimizers(built.players(model), training), Guard(CPU)
    sharded = (
        Sharded(built, model, optimizers, of.train.matching(made.spec).batch(slice(0, 2)), processes) if shard else None
    )
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
            given = training.clip, None, training.skip_above, None, Cast.of(built, model), Pieces(micro), processes
            update(built, model, optimizers, part, at, guard, *given, counting)
        else:
            sharded.update(part, at, guard, (counting, rows), micro, training.clip, None, training.skip_above)
        torch.randn = randn
    here = sum(p.numel() for p in (model.parameters() if sharded is None else sharded.leaves.values()))
    moved = {
        f"{name}.{n}": t for name, m in (("model", model), ("objective", built)) for n, t in m.state_dict().items()
    }
    whole = {n: (t.full_tensor() if isinstance(t, DTensor) else t).double() for n, t in moved.items()}
    moments = sum(v.numel() for o in optimizers.values() for s in o.state.values() for v in s.values() if v.ndim)
    return whole, {"here": here, "moments": moments, "left_out": int(guard.left_out)}


def apart(one, other):
    """Return the largest difference, relative to the largest value, over all tensors."""
    return max(float((one[n] - other[n]).abs().max() / one[n].abs().max().clamp_min(1e-2)) for n in one)


def of_spec(name, **options):
    made = getattr(lb.recipes, name)(data().spec, **options)
    return {"objective": None, "made": made}


def agree(processes):
    """Compare weights after several steps of divided weights with those of two whole copies, and of one process."""
    optimal = recipe(data())
    cases = {
        "uneven rows": {"objective": ELBO()},
        "row weights": {"objective": ELBO(), "weighted": True},
        "several samples": {"objective": IWAE(7), "rows": 8},
        "one row": {"objective": GECO(0.2), "rows": 1},
        "clipped": {"objective": ELBO(), "clip": 1.0},
        "left out": {"objective": ELBO(), "skip_above": 1.0},
        "adamax": {"objective": ELBO(), "optimizer": "adamax", "weight_decay": 0.1},
        "sgd": {"objective": ELBO(), "optimizer": "sgd", "lr": 0.001},
        "pieces": {"objective": ELBO(), "micro": 2},
        "state": {"objective": GECO(0.2)},
        "own weights": {"objective": Elsewhere()},
        "a learned scale": of_spec("gaussian_vae", latent_dim=2, hidden=(6,)) | {"lr": 0.001},
        "pseudo-inputs": of_spec("vamp", latent_dim=2, hidden=(6,)),
    }
    found = {}
    for name, case in cases.items():
        alone, _ = steps(processes=ALONE, **case)
        together, counts = steps(processes=processes, **case)
        divided, parts = steps(processes=processes, shard=True, **case)
        found[name] = {
            "alone": apart(alone, divided),
            "together": apart(together, divided),
            "whole": counts,
            "parts": parts,
        }
    return found


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    processes = join(None, "cpu", 60.0)
    found = {"agree": agree(processes)}
    if processes.first:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
