"""The gated network: its formula in numpy, its shapes, and where its output starts."""

import numpy as np
import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.networks import GatedMLP


@pytest.mark.parametrize("condition", [0, 4])
def test_it_computes_gated_layers(condition):
    network = GatedMLP((2, 3), (5, 1), hidden=(7, 8), condition=condition).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]] if condition else None
    h = np.concatenate([x.flatten(1).numpy(), *([] if y is None else [y.numpy()])], 1)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    for layer, width in enumerate((7, 8)):
        weight, bias = state[f"body.{layer}.both.weight"], state[f"body.{layer}.both.bias"]
        values, gates = h @ weight[:width].T + bias[:width], h @ weight[width:].T + bias[width:]
        h = values / (1 + np.exp(-gates))
    expected = h @ state["out.weight"].T + state["out.bias"]
    np.testing.assert_allclose(network(x, y).detach().numpy().reshape(6, 5), expected, atol=1e-12)


def test_it_starts_at_a_bias():
    network = GatedMLP((3,), (2, 2), hidden=(7,))
    bias = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    with torch.no_grad():
        network.start_at(bias)
    torch.testing.assert_close(network(torch.zeros(1, 3))[0], bias)


def test_it_wants_a_hidden_layer():
    with pytest.raises(UsageError, match="no hidden layer"):
        GatedMLP((3,), (2,), hidden=())
