"""The flows that the tests run over, with weights moved away from the identity."""

import torch

from lowerbound.flows import (
    Affine,
    Autoregressive,
    Coupling,
    Gate,
    Inverted,
    PlanarFlow,
    RadialFlow,
    Spline,
    autoregressive_flow,
    coupling_flow,
    prior_flow,
)

C = 3
SIZES = (1, 2, 5)
FLOWS = {
    "iaf": lambda d: autoregressive_flow(d, Gate(), 2, (7,), C),
    "maf": lambda d: Inverted(autoregressive_flow(d, Affine(), 2, (7, 6), C)),
    "spline autoregressive": lambda d: Autoregressive(d, Spline(4, 3.0), (7,), C),
    "realnvp": lambda d: coupling_flow(d, Affine(), 3, (7, 6), C),
    "spline coupling": lambda d: coupling_flow(d, Spline(5, 4.0), 3, (7,), C),
    "one coupling": lambda d: Coupling(d, d // 2, Affine(), (7,), C),
    "planar": lambda d: PlanarFlow(d, 3),
    "radial": lambda d: RadialFlow(d, 3),
    "prior realnvp": lambda d: prior_flow(d, "realnvp", 3, (7,)),
    "prior spline": lambda d: prior_flow(d, "spline", 3, (7,)),
    "prior maf": lambda d: prior_flow(d, "maf", 2, (7,)),
}


def moved(module, seed=0, scale=0.4):
    """Return the module in float64 with every weight drawn from N(0, scale^2), far from where training starts."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return module


def make(name, size, seed=0):
    """Return a flow away from the identity, and a function that draws contexts `[*lead, C]` (None without one)."""
    flow = moved(FLOWS[name](size), seed)
    generator = torch.Generator().manual_seed(seed + 1)

    def context(*lead):
        return torch.randn(*lead, flow.reads, generator=generator, dtype=torch.float64) if flow.reads else None

    return flow, context
