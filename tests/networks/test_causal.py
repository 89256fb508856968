"""Causal networks: no output depends on what comes after its place, and step by step gives what one pass gives."""

import pytest
import torch

from lowerbound.core.errors import ShapeError, UsageError
from lowerbound.networks import PixelCNN, Transformer

N, T, SYMBOLS, OUT = 2, 6, 5, 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 5), (2, 6, 3), (3, 2, 9)], ids=str)
def test_a_pixel_sees_all_pixels_before_it_and_no_other(shape):
    network = PixelCNN(shape, (4, *shape[1:]), channels=6, blocks=6).double()
    pixels = shape[1] * shape[2]
    x = torch.randn(1, *shape, dtype=torch.float64)

    def outputs(values):  # the channels of a pixel count as one place
        return network(values)[0].sum(0).flatten()

    jacobian = torch.autograd.functional.jacobian(outputs, x).reshape(pixels, shape[0], pixels)
    seen = (jacobian != 0).any(1)
    wanted = torch.ones(pixels, pixels, dtype=torch.bool).tril(-1)
    assert torch.equal(seen, wanted)


def test_rows_beyond_the_reach_may_be_cut_off():
    network = PixelCNN((1, 12, 5), (2, 12, 5), channels=4, blocks=2, context=3)
    x, context = torch.randn(N, 1, 12, 5), torch.randn(N, 3, 12, 5)
    whole, first = network(x, context), 11 - network.reach
    torch.testing.assert_close(network(x[:, :, first:], context[:, :, first:])[:, :, -1], whole[:, :, -1])
    one_less = network(x[:, :, first + 1 :], context[:, :, first + 1 :])[:, :, -1]
    assert not torch.allclose(one_less, whole[:, :, -1], atol=1e-6)


def test_a_place_of_a_causal_transformer_sees_the_symbols_up_to_it_and_no_other():
    network = Transformer((T,), (T, OUT), SYMBOLS, width=16).double()
    tokens = torch.randint(SYMBOLS, (1, T))
    before = network(tokens)
    for t in range(T):
        other = tokens.clone()
        other[0, t] = (other[0, t] + 1) % SYMBOLS
        changed = (network(other) != before).any(-1)[0]
        assert changed.tolist() == [place >= t for place in range(T)]


def test_a_transformer_that_is_not_causal_sees_all_but_what_is_masked():
    network = Transformer((T,), (T, OUT), SYMBOLS, width=16, causal=False).double()
    tokens, mask = torch.randint(SYMBOLS, (1, T)), torch.tensor([[1, 1, 1, 1, 0, 0]])
    before = network(tokens, mask=mask)
    for t in range(T):
        other = tokens.clone()
        other[0, t] = (other[0, t] + 1) % SYMBOLS
        assert bool((network(other, mask=mask) != before)[0, :4].any(-1).all()) == (t < 4)
    torch.testing.assert_close(network(tokens[:, :4]), before[:, :4])


@pytest.mark.parametrize("context", [0, 3])
def test_step_by_step_gives_what_one_pass_gives(context):
    network = Transformer((T,), (T, OUT), SYMBOLS, width=16, context=context).double()
    tokens, read = torch.randint(SYMBOLS, (N, T)), torch.randn(N, 3, dtype=torch.float64) if context else None
    state, each = network.begin(read), []
    for t in range(T):
        out, state = network.step(tokens[:, t], state)
        each.append(out)
    torch.testing.assert_close(torch.stack(each, 1), network(tokens, read))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="same height"):
        PixelCNN((1, 4, 4), (1, 4, 5))
    with pytest.raises(ShapeError, match="context of shape None"):
        PixelCNN((1, 4, 4), (1, 4, 4), context=2)(torch.zeros(N, 1, 4, 4))
    with pytest.raises(ShapeError, match="images of shape"):
        PixelCNN((1, 4, 4), (1, 4, 4))(torch.zeros(N, 2, 4, 4))
    with pytest.raises(UsageError, match="2 x heads"):
        Transformer((T,), (T, OUT), SYMBOLS, width=10, heads=4)
    with pytest.raises(ShapeError, match="7 symbols"):
        Transformer((T,), (T, OUT), SYMBOLS)(torch.zeros(N, T + 1, dtype=torch.long))
    with pytest.raises(ShapeError, match="a context of shape"):
        Transformer((T,), (T, OUT), SYMBOLS, context=2)(torch.zeros(N, T, dtype=torch.long))
    with pytest.raises(ShapeError, match="values"):
        Transformer((T,), (T + 1, OUT), SYMBOLS)
