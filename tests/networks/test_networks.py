"""Networks of every size: shapes, conditions, dropout, which inputs matter, and what is refused."""

from itertools import product
from math import prod

import pytest
import torch
import torch.nn.functional as F

from lowerbound.core.errors import ShapeError, UsageError
from lowerbound.core.record import describe, rebuild
from lowerbound.networks import MLP, ConvDecoder, ConvEncoder
from lowerbound.networks.conv import of_size
from lowerbound.networks.mlp import ACTIVATIONS

IMAGES = [(1, 1, 1), (1, 1, 2), (2, 3, 1), (1, 5, 7), (1, 28, 28), (1, 17, 23), (3, 8, 6), (3, 17, 23), (3, 2, 31)]
N, Y, LATENT = 4, 5, 2


def encoder(kind, shape, **options):
    if kind is MLP:
        return MLP(shape, (2, LATENT), (11, 7), "silu", **options)
    return ConvEncoder(shape, (2, LATENT), (4, 6), "silu", **options)


def decoder(kind, shape, **options):
    if kind is MLP:
        return MLP((LATENT,), shape, (7, 11), **options)
    return ConvDecoder((LATENT,), shape, (6, 4), **options)


@pytest.mark.parametrize("condition", [0, Y])
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("kind", [MLP, ConvEncoder])
def test_encoders_map_images_of_any_size(kind, shape, condition):
    network = encoder(kind, shape, condition=condition)
    y = torch.eye(Y)[:N] if condition else None
    x = torch.randn(N, *shape, requires_grad=True)
    out = network(x, y)
    assert out.shape == (N, 2, LATENT)
    out.sum().backward()
    assert bool((x.grad != 0).flatten(1).any(1).all())  # every example is read
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


@pytest.mark.parametrize("condition", [0, Y])
@pytest.mark.parametrize("shape", [*IMAGES, (2, 3, 17, 23), (2, 1, 5, 7)], ids=str)
@pytest.mark.parametrize("kind", [MLP, ConvDecoder])
def test_decoders_give_images_of_exactly_any_size(kind, shape, condition):
    network = decoder(kind, shape, condition=condition)
    y = torch.eye(Y)[:N] if condition else None
    out = network(torch.randn(N, LATENT), y)
    assert out.shape == (N, *shape)
    # no value may be left to the bias alone: a lost border row or column would be constant over the examples
    assert bool((out.std(0) > 0).all())


@pytest.mark.parametrize(("kind", "shape"), list(product([MLP, ConvEncoder], [(3, 17, 23), (1, 6, 5)])), ids=str)
def test_rows_do_not_influence_each_other(kind, shape):
    network, x = encoder(kind, shape), torch.randn(N, *shape)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize("levels", [1, 2, 5, 8])
def test_more_halvings_than_the_image_allows(levels):
    channels = (3,) * levels
    assert ConvEncoder((1, 5, 7), (LATENT,), channels)(torch.randn(N, 1, 5, 7)).shape == (N, LATENT)
    assert ConvDecoder((LATENT,), (1, 5, 7), channels)(torch.randn(N, LATENT)).shape == (N, 1, 5, 7)


@pytest.mark.parametrize("build", [encoder, decoder])
@pytest.mark.parametrize("convolutional", [False, True])
def test_the_condition_matters_and_is_asked_for(build, convolutional):
    kind = MLP if not convolutional else ConvEncoder if build is encoder else ConvDecoder
    network = build(kind, (1, 6, 5), condition=Y)
    x = torch.randn(N, *network.in_shape)
    first, second = (network(x, torch.eye(Y)[[label] * N]) for label in (0, 3))
    assert not torch.allclose(first, second)
    with pytest.raises(ShapeError, match="no condition y"):
        network(x)
    with pytest.raises(ShapeError, match="a condition of size 7") as caught:
        network(x, torch.zeros(N, 7))
    assert str(Y) in str(caught.value)


@pytest.mark.parametrize("build", [encoder, decoder])
@pytest.mark.parametrize("convolutional", [False, True])
def test_another_input_shape_is_named(build, convolutional):
    kind = MLP if not convolutional else ConvEncoder if build is encoder else ConvDecoder
    network = build(kind, (1, 6, 5))
    wrong = torch.randn(N, *network.in_shape[:-1], network.in_shape[-1] + 1)
    with pytest.raises(ShapeError) as caught:
        network(wrong)
    assert str(tuple(wrong.shape[1:])) in str(caught.value)
    assert str(network.in_shape) in str(caught.value)


def test_dropout_works_in_training_and_is_off_in_evaluation():
    network = MLP((6,), (3,), (400,), dropout=0.5)
    x = torch.randn(N, 6)
    assert not torch.equal(network(x), network(x))
    network.eval()
    quiet = network(x)
    assert torch.equal(network(x), quiet)
    undropped = MLP((6,), (3,), (400,))
    undropped.load_state_dict(network.state_dict())
    assert torch.equal(undropped(x), quiet)


def test_an_mlp_without_hidden_layers_is_one_linear_map():
    network = MLP((2, 3), (5,), ())
    a, b = torch.randn(N, 2, 3), torch.randn(N, 2, 3)
    zero = network(torch.zeros(N, 2, 3))
    torch.testing.assert_close(network(a + b) - zero, network(a) - zero + network(b) - zero, atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in network.parameters()) == 6 * 5 + 5


def test_a_squashed_output_lies_between_zero_and_one():
    out = MLP((3,), (4,), (8,), squash=True)(100 * torch.randn(N, 3))
    assert float(out.detach().min()) >= 0
    assert float(out.detach().max()) <= 1


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_by_name_and_one_for_each_layer(name):
    one = MLP((3,), (4,), (8, 6), activation=name)
    each = MLP((3,), (4,), (8, 6), activation=(name, "none"))
    each.load_state_dict(one.state_dict())
    x = torch.randn(N, 3)
    assert torch.allclose(one(x), each(x)) == (name == "none")


@pytest.mark.parametrize(
    "build",
    [
        lambda: MLP((3,), (4,), (0,)),
        lambda: MLP((3,), (4,), (-2,)),
        lambda: MLP((3,), (0,)),
        lambda: MLP((3, 0), (4,)),
        lambda: MLP((3,), (4,), dropout=1.0),
        lambda: MLP((3,), (4,), dropout=float("nan")),
        lambda: MLP((3,), (4,), (5, 6), activation=("relu",)),
        lambda: ConvEncoder((1, 5, 7), (2,), (0,)),
        lambda: ConvEncoder((1, 5, 7), (0,), (4,)),
        lambda: ConvEncoder((1, 0, 7), (2,), (4,)),
        lambda: ConvEncoder((0, 5, 7), (2,), (4,)),
        lambda: ConvDecoder((2,), (1, 5, 7), (-1,)),
        lambda: ConvDecoder((0,), (1, 5, 7), (4,)),
        lambda: ConvDecoder((2,), (1, 5, 7), ()),
    ],
)
def test_impossible_sizes_are_refused(build):
    with pytest.raises(UsageError):
        build()


@pytest.mark.parametrize(
    "build", [lambda: ConvEncoder((7,), (2,)), lambda: ConvDecoder((2,), (5, 7)), lambda: ConvEncoder((5, 7), (2,))]
)
def test_a_convolution_wants_an_image(build):
    with pytest.raises(ShapeError, match="use an MLP recipe"):
        build()


def test_images_of_one_pixel_cost_no_more_weights_than_needed():
    network = ConvEncoder((1, 1, 1), (LATENT,), (3,))
    assert sum(p.numel() for p in network.parameters()) == 3 * 16 + 3 + 3 * LATENT + LATENT


@pytest.mark.parametrize(
    "network", [MLP((2, 3), (5,), (31,)), ConvEncoder((1, 5, 7), (2,)), ConvDecoder((2,), (1, 5, 7))]
)
def test_a_network_is_rebuilt_from_its_record_with_weights_of_the_same_scale(network):
    again = rebuild(describe(network))
    for (name, one), other in zip(network.named_parameters(), again.parameters(), strict=True):
        assert one.shape == other.shape, name
        if prod(one.shape) > 100:
            assert float(one.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.5)


@pytest.mark.parametrize("size", [(6, 5), (7, 5), (6, 7), (8, 3)])
def test_images_are_brought_to_a_size_as_by_repeating_their_edge(size):
    x = torch.randn(2, 3, 6, 5, requires_grad=True)
    grown = F.pad(x, (0, max(0, size[1] - 5), 0, max(0, size[0] - 6)), mode="replicate")[..., : size[0], : size[1]]
    made = of_size(x, size)
    assert torch.equal(made, grown)
    weight = torch.randn_like(grown)
    gradients = [torch.autograd.grad((images * weight).sum(), x)[0] for images in (made, grown)]
    torch.testing.assert_close(*gradients)
