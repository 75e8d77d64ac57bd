"""Networks by their description: the shapes and sizes that the rungs are published with."""

import pytest
import torch

from experiments.mnist.forecast import work_of
from experiments.mnist.ladders import rung_named
from experiments.mnist.networks import ChannelAttention, DigitNet
from experiments.mnist.recipe import Activation, Network


@pytest.mark.parametrize(
    ("rung", "inputs", "outputs"),
    [
        ("initial", 9216, 128),
        ("smaller_net", 1600, 128),
        ("smaller_net_2", 800, 128),
        ("tuned", 800, 256),
    ],
)
def test_dense_layers_are_as_published(rung: str, inputs: int, outputs: int) -> None:
    first = DigitNet(rung_named(rung).recipe.network).dense[0]
    assert isinstance(first, torch.nn.Linear)
    assert (first.in_features, first.out_features) == (inputs, outputs)


def test_the_example_has_its_known_number_of_parameters() -> None:
    # Source: 320 + 18,496 + 1,179,776 + 1,290 of the PyTorch example.
    assert sum(one.numel() for one in DigitNet(Network()).parameters()) == 1_199_882


def test_pooling_first_gives_the_same_scores() -> None:
    images = torch.randn(3, 1, 28, 28)
    scores = []
    for is_first in (False, True):
        torch.manual_seed(0)
        network = Network(pools=(True, True), pool_first=is_first)
        scores.append(DigitNet(network).eval()(images))
    assert torch.equal(*scores)
    assert scores[0].shape == (3, 10)


def test_a_network_without_convolutions_is_a_perceptron() -> None:
    model = DigitNet(Network(widths=(), kernels=(), pools=(), hidden=(256, 128), dropout=0.0))
    assert [tuple(one.shape) for one in model.parameters() if one.ndim == 2] == [
        (256, 784),
        (128, 256),
        (10, 128),
    ]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_a_network_that_eats_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves nothing of an image of 28 by 28"):
        DigitNet(Network(kernels=(3, 28)))


def test_work_is_counted_by_hand() -> None:
    # 26 x 26 x 9 x 32, 24 x 24 x 9 x 32 x 64, 9216 x 128, 128 x 10 multiply-adds.
    forward = 2 * (194_688 + 10_616_832 + 1_179_648 + 1_280)
    work = work_of(Network())
    assert work.forward == forward
    # Twice that, but the images need no gradient.
    assert work.backward == 2 * forward - 2 * 194_688


def test_a_whitened_convolution_makes_patches_white_and_is_not_trained() -> None:
    torch.manual_seed(0)
    blurred = torch.nn.functional.avg_pool2d(torch.randn(400, 1, 32, 32), 5, stride=1)
    model = DigitNet(Network(widths=(18, 8), kernels=(3, 3), pools=(True, True)))
    model.whiten(blurred)
    weight = model.convolutions[0].weight
    assert not weight.requires_grad
    maps = torch.nn.functional.conv2d(blurred, weight)[:, ::2]
    rows = maps.transpose(0, 1).flatten(1)
    covariance = torch.cov(rows)
    # The directions in which patches vary far more than the epsilon.
    strong = covariance.diagonal() > 0.5
    assert strong.sum() >= 2
    loud = covariance[strong][:, strong]
    assert (loud - loud.diagonal().diag()).abs().max() < 0.05
    assert torch.allclose(weight[0], -weight[1])


def test_a_residual_network_adds_its_input() -> None:
    model = DigitNet(Network(is_residual=True, map_dropout=0.0, dropout=0.0))
    images = torch.randn(2, 1, 28, 28)
    before = model(images)
    with torch.no_grad():
        model.shortcuts[0].weight.zero_()
    assert not torch.allclose(model(images), before)
    plain = DigitNet(Network(map_dropout=0.0, dropout=0.0))
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.allclose(plain(images), model(images))


def test_attention_weighs_maps_between_nothing_and_all() -> None:
    attention = ChannelAttention(8)
    maps = torch.rand(2, 8, 4, 4) + 0.1
    weights = attention(maps) / maps
    assert torch.allclose(weights, weights[:, :, :1, :1].expand_as(weights))
    assert 0 < weights.min() < weights.max() < 1


@pytest.mark.parametrize("activation", Activation)
def test_each_activation_is_used(activation: Activation) -> None:
    torch.manual_seed(0)
    model = DigitNet(Network(map_dropout=0.0, dropout=0.0, activation=activation))
    torch.manual_seed(0)
    relu = DigitNet(Network(map_dropout=0.0, dropout=0.0))
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images), relu(images)) == (activation is Activation.RELU)
