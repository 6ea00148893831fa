"""The engine under fine-tuning: faster arithmetic that gives the same answers."""

import copy
import math
import os
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from meninx.backbones import Backbone
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    FitTimes,
    Strategy,
    arithmetic,
    choose_precision,
    classifier,
    count_partly_trained,
    counting,
    load_backbone,
    make_views,
    time_fits,
    time_heads,
    timing,
    training,
)
from meninx.finetune.activations import StoredActivations
from meninx.finetune.convolution import (
    FastConvolution,
    freeze_depthwise,
    fuse_activations,
    quicken_convolutions,
)
from meninx.finetune.depth import draw_left_out, find_residual_blocks, leave_out
from meninx.finetune.folding import FoldedNetwork
from meninx.finetune.gradients import differentiate_inputs, differentiate_weight
from meninx.finetune.pooling import FastPool, quicken_pools
from meninx.finetune.training import Recipe, draw_batches, train
from meninx.finetune.training_form import TrainingForm
from meninx.study.workers import one_thread
from tests.conftest import NEEDS_BFLOAT16, draw_disc

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def discs():
    random = np.random.default_rng(5)
    labels = np.arange(9) % 3
    return np.stack([draw_disc(random, label) for label in labels]), labels


def _shake_statistics(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
    return network


# Folding


@pytest.mark.parametrize("name", [LITE0, "resnet18", "mobilenetv2_100", "densenet121"])
def test_a_folded_network_computes_the_same_with_fewer_layers(name):
    network = _shake_statistics(Backbone.untrained(name).network)
    images = torch.rand(2, 3, 64, 64)
    folded = FoldedNetwork.fold(network, images)
    with torch.inference_mode():
        found, expected = folded.network(images), network(images)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    assert folded.pairs


@pytest.mark.parametrize("name", [LITE0, "resnet18", "densenet121"])
def test_trained_weights_find_back_into_the_network_as_it_was_built(name):
    backbone = Backbone.untrained(name)
    suffix = _shake_statistics(backbone.suffix("stage3")).eval()
    with torch.inference_mode():
        inputs = backbone.prefix("stage3")(torch.rand(2, 3, 64, 64)).clone()
    folded = FoldedNetwork.fold(suffix, inputs)
    with torch.no_grad():
        for parameter in folded.network.parameters():
            parameter.mul_(1.05)
    names = list(suffix.state_dict())
    folded.write_back(suffix)
    with torch.inference_mode():
        assert torch.allclose(suffix(inputs), folded.network(inputs), rtol=1e-3, atol=1e-4)
    assert list(suffix.state_dict()) == names


class _TwoWays(nn.Module):
    """A convolution whose output also goes past the layer behind it: the two must stay two."""

    def __init__(self, behind):
        super().__init__()
        self.convolution, self.behind = nn.Conv2d(3, 4, 3), behind

    def forward(self, x):
        seen = self.convolution(x)
        return seen + self.behind(seen)


def test_a_convolution_that_feeds_two_layers_is_left_alone():
    network = _shake_statistics(_TwoWays(nn.BatchNorm2d(4))).eval()
    images = torch.rand(2, 3, 8, 8)
    folded = FoldedNetwork.fold(network, images)
    with torch.inference_mode():
        assert folded.pairs == ()
        assert torch.equal(folded.network(images), network(images))


# Depthwise convolutions


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 0), (3, 2, 0), (1, 1, 0), (2, 1, 1), (7, 1, 3)],
)
def test_a_fast_depthwise_convolution_has_the_true_gradients(kernel, stride, padding):
    convolution = nn.Conv2d(6, 6, kernel, stride, padding, groups=6)
    images = torch.randn(2, 6, 11, 10, requires_grad=True)
    fast = FastConvolution(convolution)
    weights = torch.randn_like(convolution(images))
    wanted = (images, convolution.weight, convolution.bias)
    expected = torch.autograd.grad((convolution(images) * weights).sum(), wanted)
    found = torch.autograd.grad((fast(images) * weights).sum(), wanted)
    assert torch.allclose(fast(images), convolution(images), atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 0), (3, 2, 0)]
)
def test_depthwise_gradients_are_the_true_ones_in_either_kind_of_number(
    kernel, stride, padding, dtype
):
    # Small whole numbers: both kinds hold them, and their sums, exactly.
    generator = torch.Generator().manual_seed(0)
    images, weight = (
        torch.randint(-2, 3, shape, generator=generator).float().requires_grad_()
        for shape in ((2, 6, 11, 10), (6, 1, kernel, kernel))
    )
    outputs = functional.conv2d(images, weight, None, stride, padding, 1, 6)
    gradient = torch.randint(-1, 2, outputs.shape, generator=generator).float()
    expected = torch.autograd.grad(outputs, (images, weight), gradient)
    with torch.no_grad():
        given = [
            one.to(dtype).contiguous(memory_format=torch.channels_last)
            for one in (gradient, weight, images)
        ]
    shape = ((stride, stride), (padding, padding))
    inputs = differentiate_inputs(*given[:2], images.shape, *shape)
    assert torch.equal(inputs.float(), expected[0])
    # Sums over all pixels are larger than bfloat16 counts.
    of_weight = differentiate_weight(*given, *shape).float()
    torch.testing.assert_close(of_weight, expected[1], atol=1e-3, rtol=2**-8)


@pytest.mark.parametrize("size", [(12, 12), (13, 11), (14, 17)], ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"),
    [(3, 2, 1, 6), (5, 2, 1, 6), (3, 1, 1, 6), (2, 3, 1, 6), (3, 2, 2, 6), (3, 2, 1, 1)],
)
def test_a_fast_convolution_pads_by_the_rule_of_tensorflow(kernel, stride, dilation, groups, size):
    convolution = Conv2dSame(6, 6, kernel, stride, dilation=dilation, groups=groups)
    fast = FastConvolution(convolution)
    images = torch.randn(2, 6, *size).to(memory_format=torch.channels_last).requires_grad_()
    expected = convolution(images)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    wanted = (images, *convolution.parameters())
    found = torch.autograd.grad((fast(images) * weights).sum(), wanted)
    for one, other in zip(
        found, torch.autograd.grad((expected * weights).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_fast_1_by_1_convolution_has_the_true_gradients(bias, layout):
    convolution = nn.Conv2d(5, 7, 1, bias=bias)
    images = torch.randn(2, 5, 4, 3).to(memory_format=layout).requires_grad_()
    fast = FastConvolution(convolution)
    assert fast.is_pointwise
    weights = torch.randn_like(convolution(images)).to(memory_format=layout)
    wanted = (images, *convolution.parameters())
    expected = torch.autograd.grad((convolution(images) * weights).sum(), wanted)
    found = torch.autograd.grad((fast(images) * weights).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=NEEDS_BFLOAT16)]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_1_by_1_convolution_is_a_product_where_nothing_is_trained(dtype, bias, layout):
    convolution = nn.Conv2d(5, 7, 1, bias=bias).to(dtype)
    images = torch.randn(2, 5, 4, 3).to(dtype).to(memory_format=layout)
    fast, active = FastConvolution(convolution), FastConvolution(convolution, 6.0)
    with torch.no_grad():
        expected = convolution(images)
        near = {"atol": 1e-5 if dtype == torch.float32 else 0.02, "rtol": 0.01}
        torch.testing.assert_close(fast(images), expected, **near)
        torch.testing.assert_close(active(images), functional.relu6(expected), **near)
        # Some networks' activation functions work in place.
        silent = functional.silu(fast(images), inplace=True)
        torch.testing.assert_close(silent, functional.silu(expected), **near)


def test_what_is_behind_a_1_by_1_convolution_in_training_may_work_in_place():
    fast = FastConvolution(nn.Conv2d(5, 7, 1))
    functional.silu(fast(torch.randn(2, 5, 4, 3)), inplace=True).sum().backward()
    assert fast.weight.grad.abs().min() > 0


def test_only_a_plain_1_by_1_convolution_can_be_a_product():
    others = [nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 3)]
    others.append(nn.Conv2d(4, 4, 1, padding=1))
    assert not any(FastConvolution(other).is_pointwise for other in others)


@pytest.mark.parametrize(
    "convolution",
    [nn.Conv2d(16, 16, 5, padding=2, groups=16), nn.Conv2d(16, 24, 1)],
    ids=["depthwise", "1 × 1"],
)
def test_fast_gradients_in_bfloat16_are_near_the_true_ones(convolution):
    images = torch.randn(2, 16, 14, 14)
    weights = torch.randn_like(convolution(images))
    wanted = (convolution.weight, convolution.bias)
    expected = torch.autograd.grad((convolution(images) * weights).sum(), wanted)
    fast = FastConvolution(convolution)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = fast(images)
    assert outputs.dtype == torch.bfloat16
    found = torch.autograd.grad((outputs * weights).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 0.02 * other.abs().max()


# Convolutions that do what the ReLU behind them does


class _Pieces(nn.Module):
    """Dense, strided and depthwise convolutions, each with a ReLU behind it."""

    def __init__(self, activation):
        super().__init__()
        self.dense, self.first = nn.Conv2d(3, 8, 3, 2, 1), activation()
        self.apart, self.second = nn.Conv2d(8, 8, 5, padding=2, groups=8), activation()
        self.point, self.third = nn.Conv2d(8, 6, 1, bias=False), activation()

    def forward(self, x):
        x = self.second(self.apart(self.first(self.dense(3 * x))))
        return self.third(self.point(x))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_a_convolution_that_activates_has_the_true_outputs_and_gradients(activation):
    network = _Pieces(activation)
    images = torch.randn(2, 3, 12, 10, requires_grad=True)
    fast = copy.deepcopy(network)
    fuse_activations(fast.eval(), images.detach())
    assert [type(layer) for layer in fast.children()] == [FastConvolution, nn.Identity] * 3
    assert torch.allclose(fast(images), network(images), atol=1e-5)
    weights = torch.randn_like(network(images))
    for one in (network, fast):
        (one(images) * weights).sum().backward()
    for name, parameter in network.named_parameters():
        assert torch.allclose(fast.get_parameter(name).grad, parameter.grad, atol=1e-4), name
    of_images = torch.autograd.grad((network(images) * weights).sum(), images)[0]
    assert torch.allclose(images.grad, 2 * of_images, atol=1e-4)


@NEEDS_BFLOAT16
def test_activating_in_bfloat16_changes_no_bit():
    network = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU6()).bfloat16()
    images = (4 * torch.randn(2, 16, 9, 9)).bfloat16()
    fused = copy.deepcopy(network)
    fuse_activations(fused, images)
    with torch.inference_mode():
        assert torch.equal(fused(images), network(images))


class _Twice(nn.Module):
    """A ReLU that works in two places: it must stay in both."""

    def __init__(self, behind):
        super().__init__()
        self.convolution, self.behind = nn.Conv2d(3, 3, 3, padding=1), behind

    def forward(self, x):
        return self.behind(self.behind(self.convolution(x)) - 0.5)


@pytest.mark.parametrize("kind", [_TwoWays, _Twice])
def test_a_relu_that_is_not_all_there_is_behind_a_convolution_stays(kind):
    network, images = kind(nn.ReLU()), torch.randn(2, 3, 8, 8)
    fuse_activations(network, images)
    assert isinstance(network.convolution, nn.Conv2d)
    assert isinstance(network.behind, nn.ReLU)


def test_a_convolution_that_does_not_pad_with_zeros_is_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU())
    fuse_activations(network, torch.randn(2, 3, 8, 8))
    assert isinstance(network[0], nn.Conv2d)


def test_a_network_that_gives_what_is_no_number_keeps_its_relu():
    """A fused ReLU would make 0 of it, and nobody would see."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight[0, 0] = torch.nan
    images = torch.randn(2, 3, 8, 8)
    fuse_activations(network, images)
    assert isinstance(network[1], nn.ReLU)
    assert network(images).isnan().any()


@pytest.mark.parametrize("name", [LITE0, "resnet18", "mobilenetv2_100", "torchvision/vgg11"])
def test_a_prefix_in_its_fast_form_gives_what_the_network_does(name):
    backbone = Backbone.untrained(name)
    _shake_statistics(backbone.network)
    fast = arithmetic.make_fast_form(backbone, "float32")
    assert any(isinstance(layer, FastConvolution) for layer in fast.modules())
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        expected = backbone.network(images)
        assert (fast(images) - expected).abs().max() < 1e-3 * expected.abs().max()


def test_an_exact_fast_form_stays_exact_when_another_is_made_of_it():
    backbone = Backbone.untrained("resnet18")
    exact = arithmetic.make_fast_form(backbone, "float32")
    fast = arithmetic.make_fast_form(backbone, "bfloat16-from-stage1")
    assert {one.dtype for one in exact.parameters()} == {torch.float32}
    assert {one.dtype for one in fast.parameters()} == {torch.float32, torch.bfloat16}


def test_depthwise_convolutions_are_all_that_is_frozen():
    suffix = Backbone.untrained(LITE0).suffix("stage6")
    before = sum(p.numel() for p in suffix.parameters())
    depthwise = sum(
        p.numel()
        for module in suffix.modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
        for p in module.parameters()
    )
    quicken_convolutions(suffix)
    freeze_depthwise(suffix)
    trained = sum(p.numel() for p in suffix.parameters() if p.requires_grad)
    assert trained == before - depthwise > 0


def test_what_partial_training_adjusts_is_counted_without_what_it_keeps():
    backbone = load_backbone(LITE0)
    whole = sum(p.numel() for p in backbone.suffix("stage7").parameters())
    assert 0.9 * whole < count_partly_trained(backbone, "stage7") < whole


def test_partial_training_leaves_depthwise_convolutions_as_pretrained(discs):
    classifier = FineTunedClassifier(
        strategy="partial", cut="stage7", views=2, image_size=64, epochs=1
    )
    network = classifier.fit(*discs).network_
    pretrained = load_backbone(LITE0).suffix("stage7")
    example = torch.rand(1, 192, 2, 2)
    folded = FoldedNetwork.fold(pretrained, example).network.state_dict()
    name = next(key for key in folded if key.endswith("conv_dw.weight"))
    assert torch.allclose(network.state_dict()[name], folded[name], atol=1e-6)
    moved = name.replace("conv_dw", "conv_pw")
    assert not torch.allclose(network.state_dict()[moved], folded[moved], atol=1e-5)


# Parts of a step


class Counting(nn.Sequential):
    """A small suffix that notes how many images it is given at a time."""

    def __init__(self, *more):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(2, 4, 3), *more, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.given = []

    def forward(self, inputs):
        self.given.append(len(inputs))
        return super().forward(inputs)


def train_on_maps(suffix, side):
    random = torch.Generator().manual_seed(1)
    maps = tuple(torch.rand(1, 2, side, side, generator=random) for _ in range(8))
    recipe = Recipe(1, 8, 1e-3, 0.01, 0.1)
    batches = draw_batches(8, 1, recipe, seed=0)[:2]
    head = nn.Linear(4, 2)
    nn.init.constant_(head.weight, 0.1)
    nn.init.zeros_(head.bias)
    train(suffix, head, StoredActivations(maps), np.arange(8) % 2, batches, recipe, seed=0)
    return suffix[0].weight.detach()


@pytest.mark.parametrize(
    ("side", "dtype", "given"),
    [
        (48, torch.bfloat16, [3, 2, 3] * 2),
        (48, torch.float32, [3, 2, 3] * 2),
        (33, torch.float32, [4, 4] * 2),
        (33, torch.bfloat16, [8] * 2),
        (30, torch.float32, [8] * 2),
    ],
)
def test_a_step_is_divided_where_its_maps_would_take_too_much_memory(
    side, dtype, given, monkeypatch
):
    monkeypatch.setattr(training, "find_fast_dtype", lambda: dtype)
    suffix = Counting()
    train_on_maps(suffix, side)
    assert suffix.given == given


def test_a_divided_step_is_the_same_step(monkeypatch):
    monkeypatch.setattr(training, "find_fast_dtype", lambda: torch.float32)
    divided = train_on_maps(Counting(), 20)
    monkeypatch.setattr(training, "MIDDLE_MAP", 30)
    torch.testing.assert_close(train_on_maps(Counting(), 20), divided, atol=1e-5, rtol=1e-3)


def test_a_network_that_compares_the_images_of_a_step_is_not_divided(monkeypatch):
    monkeypatch.setattr(training, "find_fast_dtype", lambda: torch.float32)
    suffix = Counting(nn.BatchNorm2d(4))
    train_on_maps(suffix, 48)
    assert suffix.given == [8, 8]


# Precision


@NEEDS_BFLOAT16
def test_bfloat16_is_used_only_where_probabilities_hardly_move(discs, monkeypatch):
    monkeypatch.setattr(arithmetic, "find_fast_dtype", lambda: torch.bfloat16)
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    monkeypatch.setattr(arithmetic, "LARGEST_MOVE", 1.1)
    assert choose_precision(backbone, *discs, views) == "bfloat16-from-stem"
    monkeypatch.setattr(arithmetic, "LARGEST_MOVE", 0.0)
    assert choose_precision(backbone, *discs, views) == "float32"


@NEEDS_BFLOAT16
@pytest.mark.parametrize(
    ("moves", "precision"),
    [([0.5] * 6, "float32"), ([0.0] * 5 + [0.01] + [0.0] * 6, "bfloat16-from-stage1")],
    ids=["the first is enough", "the last of six"],
)
def test_one_image_that_moves_too_far_refuses_a_precision(moves, precision, discs, monkeypatch):
    given = iter(moves)
    monkeypatch.setattr(arithmetic, "find_fast_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(arithmetic, "_measure_move", lambda *_: next(given))
    backbone = load_backbone(LITE0).resized(64)
    assert choose_precision(backbone, *discs, make_views(2)) == precision
    assert not list(given)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True, "sse4a": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "sse4a": True}, torch.float32),
        ({}, torch.float32),
    ],
    ids=["AMD", "Intel without a matrix unit", "Intel with one", "older AMD", "unknown"],
)
def test_bfloat16_is_used_where_it_is_faster(capabilities, dtype, monkeypatch):
    """Once wherever processors have it: on an Intel one training took 1.35 times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert arithmetic.find_fast_dtype() is dtype


def test_a_processor_without_bfloat16_uses_float32(discs, monkeypatch):
    monkeypatch.setattr(arithmetic, "find_fast_dtype", lambda: torch.float32)
    backbone = load_backbone(LITE0).resized(64)
    assert choose_precision(backbone, *discs, make_views(2)) == "float32"


def test_the_chosen_precision_moves_no_probability_by_more_than_a_hundredth(discs):
    images, labels = discs
    backbone, views = load_backbone(LITE0).resized(64), make_views(4)
    precision = choose_precision(backbone, images, labels, views)
    settings = {"views": 4, "image_size": 64}
    exact = FineTunedClassifier(**settings).fit(images, labels)
    fast = FineTunedClassifier(**settings, precision=precision).fit(images, labels)
    difference = exact.predict_proba(images) - fast.predict_proba(images)
    assert np.abs(difference).max() < 0.02  # two heads, each within 0.01 of the same one


# The store


def test_a_deeper_cut_goes_on_from_a_shallower_one_and_gives_the_same(discs, tmp_path, monkeypatch):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    direct = ActivationStore(tmp_path / "a").get(backbone, "stage7", discs[0][:1], views)
    store = ActivationStore(tmp_path / "b")
    store.fill(backbone, ("stage3",), discs[0][:1], views)
    monkeypatch.setattr("meninx.finetune.activations.look", lambda *_: pytest.fail("began anew"))
    resumed = store.get(backbone, "stage7", discs[0][:1], views)
    assert torch.equal(resumed.batch([0], [1]), direct.batch([0], [1]))


def test_activations_of_another_device_are_not_taken(discs, tmp_path, monkeypatch):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    store = ActivationStore(tmp_path)
    store.get(backbone, "stage7", discs[0][:1], views)
    other = torch.device("cuda")
    monkeypatch.setattr("meninx.finetune.activations.find_device", lambda: other)
    store.get(backbone, "stage7", discs[0][:1], views)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("name", [LITE0, "resnet18", "densenet121"])
def test_a_prefix_runs_on_a_graphics_card_and_what_it_gives_comes_back(name, monkeypatch):
    card, images = torch.device("cuda"), torch.zeros(8, 3, 64, 64)
    network = FoldedNetwork.fold(Backbone.untrained(name).network, images[:1]).network
    left_behind = copy.deepcopy(network[1])
    monkeypatch.setattr(arithmetic, "find_device", lambda: card)
    # Kind, shape and place of tensors without numbers are followed without a card.
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to_empty(device=card)
        found = dict(arithmetic.run_prefix(network, "stem", ["stage2", "head"], images))
        assert {tensor.device.type for tensor in found.values()} == {"cpu"}
        assert [len(tensor) for tensor in found.values()] == [8, 8]
        network[1] = left_behind.to_empty(device="cpu")
        with pytest.raises(RuntimeError, match=r"cpu.*cuda|cuda.*cpu"):
            list(arithmetic.run_prefix(network, "stem", ["stage2", "head"], images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graphics_card_gives_the_activations_of_the_processor(discs, tmp_path, monkeypatch):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    fast = ActivationStore(tmp_path).get(backbone, "stage7", discs[0][:1], views)
    monkeypatch.setattr(arithmetic, "find_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("meninx.finetune.activations.find_device", lambda: torch.device("cpu"))
    arithmetic.forget_fast_forms()
    exact = ActivationStore(tmp_path).get(backbone, "stage7", discs[0][:1], views)
    np.testing.assert_allclose(fast.batch([0], [0]), exact.batch([0], [0]), atol=1e-2)


def test_an_altered_file_is_computed_again(discs, tmp_path, monkeypatch):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    store = ActivationStore(tmp_path)
    expected = store.get(backbone, "stage7", discs[0][:1], views).batch([0], [0]).clone()
    (file,) = tmp_path.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x40
    file.write_bytes(content)
    monkeypatch.setattr("meninx.finetune.activations._checked", set())
    found = store.get(backbone, "stage7", discs[0][:1], views).batch([0], [0])
    assert torch.equal(found, expected)


def test_the_files_that_were_not_used_for_longest_go_first(discs, tmp_path, monkeypatch):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    store = ActivationStore(tmp_path)
    for image in discs[0][:3]:
        store.fill(backbone, ("stage7",), [image], views)
    files = sorted(tmp_path.rglob("*.safetensors"))
    for age, file in enumerate(files):
        os.utime(file, (1e9 - age, 1e9 - age))
    size = files[0].stat().st_size
    monkeypatch.setenv("MENINX_CACHE_GIB", str(2.5 * size / 2**30))
    store.trim()
    assert sorted(tmp_path.rglob("*.safetensors")) == files[:2]


@pytest.mark.parametrize("cut", ["stage1", "stage4", "stage7"])
def test_part_of_an_image_is_enough_to_fold_a_suffix_for_training(cut, discs, monkeypatch):
    backbone = Backbone.load(LITE0)
    activations = ActivationStore().get(backbone, cut, discs[0][:1], make_views(1, 0))
    seen = []
    fold = FoldedNetwork.fold
    monkeypatch.setattr(
        FoldedNetwork,
        "fold",
        lambda network, example: (seen.append(example.shape[-1]), fold(network, example))[1],
    )
    given = TrainingForm.of_suffix(backbone, cut, Strategy.PARTIAL, activations).folded
    whole = activations.batch([0], [0])
    assert seen == [whole.shape[-1] * 128 // 224]
    expected = fold(backbone.suffix(cut), whole)
    # Every BatchNorm layer is folded, and the numbers are the same.
    assert given.pairs == expected.pairs and len(given.pairs) >= 4
    weights = given.network.state_dict()
    assert all(
        torch.equal(weights[name], one) for name, one in expected.network.state_dict().items()
    )


@pytest.mark.parametrize("strategy", [Strategy.PARTIAL, Strategy.FULL, Strategy.SCRATCH])
def test_what_is_trained_is_a_copy(strategy):
    backbone = Backbone.untrained("resnet18")
    before = {name: one.clone() for name, one in backbone.network.state_dict().items()}
    activations = StoredActivations((torch.rand(1, 256, 8, 8),))
    form = TrainingForm.of_suffix(backbone, "stage4", strategy, activations)
    assert all(one.requires_grad for one in form.network.parameters())
    with torch.no_grad():
        for one in form.network.parameters():
            one.add_(1.0)
    after = backbone.network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    assert not any(one.requires_grad for one in backbone.network.parameters())


# Pooling


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fast_pool_gives_the_same_bits_forwards_and_backwards(dtype):
    maps = torch.randn(3, 5, 7, 7).to(dtype).contiguous(memory_format=torch.channels_last)
    network = nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(1)), nn.AdaptiveAvgPool2d(2))
    fast = copy.deepcopy(network)
    quicken_pools(fast)
    assert isinstance(fast[0][0], FastPool) and isinstance(fast[1], nn.AdaptiveAvgPool2d)
    found = []
    for pool in (network[0], fast[0]):
        own = maps.clone().requires_grad_()
        means = pool(own)
        means.backward(torch.arange(15.0).view_as(means).to(dtype))
        found.append((means, own.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# Memory


def test_the_features_of_a_first_head_are_gone_before_the_layers_are_trained(discs, monkeypatch):
    given, events = [], []
    compute, train_on = classifier.compute_all_features, classifier.train

    def note_features(*arguments):
        features = compute(*arguments)
        given.append(weakref.ref(features))
        return features

    def give_back():
        assert [one() for one in given] == [None]
        events.append("given back")

    monkeypatch.setattr(classifier, "compute_all_features", note_features)
    monkeypatch.setattr(classifier, "give_memory_back", give_back)
    monkeypatch.setattr(
        classifier, "train", lambda *arguments: (events.append("trained"), train_on(*arguments))
    )
    partly = FineTunedClassifier(
        strategy="partial", cut="stage7", views=2, image_size=32, epochs=1, batch_size=9
    )
    partly.fit(*discs)
    assert events == ["given back", "trained"]


# Depth


class _Adding(nn.Module):
    """A residual block, or one that only looks like it."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1))
        self.factor = factor

    def forward(self, x):
        return self.factor * x + self.layers(x)


def _make_deep_network():
    torch.manual_seed(3)
    blocks = [_Adding(), nn.Sequential(nn.Conv2d(4, 4, 1)), _Adding(2.0), _Adding(), _Adding(0.0)]
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*blocks, nn.Conv2d(4, 5, 1), pool).eval()


def test_residual_blocks_are_found_by_what_they_do():
    network = _make_deep_network()
    example = torch.rand(1, 4, 3, 3)
    before = network(example)
    assert find_residual_blocks(network, example) == ["0", "3"]
    assert torch.equal(network(example), before)
    # Nothing can be seen where nothing comes in.
    assert find_residual_blocks(network, torch.zeros(1, 4, 3, 3)) == ["3"]


@pytest.mark.parametrize(
    ("name", "cut", "count"),
    [(LITE0, "stage4", 7), (LITE0, "stage7", 0), ("resnet18", "stage3", 2), ("vgg11", "stage4", 0)],
)
def test_residual_blocks_of_real_networks_are_found(name, cut, count):
    backbone = Backbone.untrained(name).resized(64)
    with torch.inference_mode():
        maps = backbone.prefix(cut).eval()(torch.rand(1, 3, 64, 64))
    activations = StoredActivations((maps.clone(),))
    form = TrainingForm.of_suffix(backbone, cut, Strategy.PARTIAL, activations)
    assert len(form.residual_blocks) == count


@hypothesis.given(
    blocks=st.integers(0, 12), steps=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0)
)
def test_each_step_leaves_out_as_many_blocks_and_each_block_is_left_out_as_often(
    blocks, steps, share, seed
):
    names = [f"block{number}" for number in range(blocks)]
    drawn = draw_left_out(names, steps, share, seed)
    assert drawn == draw_left_out(names, steps, share, seed)
    assert [len(set(step)) for step in drawn] == [round(share * blocks)] * steps
    often = [sum(name in step for step in drawn) for name in names]
    assert not often or max(often) - min(often) <= 1


def test_other_seeds_leave_out_other_blocks():
    names = [f"block{number}" for number in range(7)]
    assert draw_left_out(names, 9, 0.4, 0) != draw_left_out(names, 9, 0.4, 1)


def test_blocks_that_are_left_out_hand_on_what_they_are_given_until_the_end():
    network = _make_deep_network()
    example = torch.rand(2, 4, 3, 3)
    whole = network(example)
    without = nn.Sequential(*[network[number] for number in (1, 2, 4, 5, 6)])(example)
    with pytest.raises(ZeroDivisionError), leave_out(network, ("0", "3")):
        assert torch.equal(network(example), without)
        raise ZeroDivisionError
    assert torch.equal(network(example), whole)


def test_training_leaves_out_the_blocks_that_it_is_told():
    maps, labels = torch.rand(40, 1, 4, 3, 3), np.arange(40) % 2
    changed = {}
    for share in (0.0, 0.5, 1.0):
        network, head = _make_deep_network(), nn.Linear(5, 2)
        before = copy.deepcopy(network.state_dict())
        recipe = Recipe(8, 8, 1e-2, 0.0, 0.0, left_out=share)
        batches = draw_batches(40, 1, recipe, seed=0)
        train(network, head, StoredActivations(tuple(maps)), labels, batches, recipe, 0, ("0", "3"))
        changed[share] = {
            name.partition(".")[0]
            for name, weights in network.state_dict().items()
            if not torch.equal(weights, before[name])
        }
    assert changed[0.0] == changed[0.5] == {"0", "1", "2", "3", "4", "5"}
    assert changed[1.0] == {"1", "2", "4", "5"}


def test_only_partial_fits_from_a_solved_head_leave_blocks_out():
    for strategy in Strategy:
        for layers in ((), (8,)):
            classifier = FineTunedClassifier(
                strategy=strategy, extra_layers=layers, blocks_left_out=0.25
            )
            is_wanted = strategy is Strategy.PARTIAL and not layers
            assert classifier.recipe.left_out == (0.25 if is_wanted else 0.0)


# Timing


def test_every_kind_of_fit_can_be_timed(discs):
    settings = [
        {"strategy": "frozen"},
        {"strategy": "frozen", "extra_layers": (4,)},
        {"strategy": "partial", "cut": "stage7"},
        {"strategy": "full"},
    ]
    classifiers = [FineTunedClassifier(views=2, image_size=32, **one) for one in settings]
    (timed,) = time_fits([classifiers], discs[0][0], classes=3)
    assert all(min(times.reading, times.activations) > 0 for times in timed)
    solved, *stepwise = timed
    assert all(min(times.training, times.prediction) > 0 for times in stepwise)
    # Its linear heads are timed apart.
    assert solved.training == solved.prediction == solved.start == 0
    scratch = FineTunedClassifier(strategy="scratch", views=2, image_size=32)
    ((times,),) = time_fits([[scratch]], discs[0][0], classes=3)
    assert times.activations == 0 and min(times.reading, times.start, times.training) > 0


def test_the_arithmetic_of_one_look_is_that_of_the_networks_convolutions():
    backbone = Backbone.load(LITE0)
    # timm's tf_efficientnet_lite0 has 385.2 million, 1.3 of them in its head of 1,000 classes, and
    # 6.74 million numbers come out of its convolutions.
    whole = counting.count_arithmetic(backbone, "stem")
    assert whole == pytest.approx(np.sqrt(383.9e6 * 6.74e6), rel=0.001)
    deeper = [counting.count_arithmetic(backbone, cut) for cut in backbone.cuts]
    assert deeper == sorted(deeper, reverse=True) and deeper[0] == whole and deeper[-1] == 0


@pytest.mark.parametrize(("dtype", "cost"), [(torch.float32, 1.1), (torch.bfloat16, 1.0)])
def test_a_step_that_is_divided_for_its_memory_is_said_to_cost_more(dtype, cost, monkeypatch):
    monkeypatch.setattr(training, "find_fast_dtype", lambda: dtype)
    lite0, lite2 = (load_backbone(f"tf_efficientnet_lite{number}") for number in (0, 2))
    # Maps of 33 x 33 pixels, and of 28 x 28; there is no step from the head on.
    assert counting.estimate_cost_of_steps(lite2, "stage4") == cost
    assert counting.estimate_cost_of_steps(lite0, "stage4") == 1.0
    assert counting.estimate_cost_of_steps(lite2, "stage5") == 1.0
    assert counting.estimate_cost_of_steps(lite2, "head") == 1.0


def test_the_arithmetic_of_a_large_network_is_a_number():
    # More than 2^63 times each other; no memory is taken on torch's device of shapes alone.
    layer = nn.Linear(200_000, 200_000, device="meta")
    images = torch.empty(64, 200_000, device="meta")
    _, (multiplications, numbers) = counting._count_run(layer, images)
    assert math.sqrt(multiplications * numbers) == pytest.approx(64 * 200_000**1.5)


def test_the_weights_of_a_network_from_scratch_are_made_up_once_and_belong_to_its_start(
    discs, monkeypatch
):
    seconds, made = [0.0], []
    untrained = Backbone.untrained

    def make_up(name, seed):
        made.append(name)
        seconds[0] += 7
        return untrained(name, seed)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    monkeypatch.setattr(Backbone, "untrained", make_up)
    scratch = FineTunedClassifier(strategy="scratch", views=2, image_size=32, batch_size=4)
    ((times,),) = time_fits([[scratch]], discs[0][0], classes=3)
    assert made == [LITE0] and times.start == 7


@pytest.mark.parametrize(("classes", "read"), [(3, 4), (6, 6)])
def test_as_few_images_are_read_as_tell_how_long_it_takes(classes, read, discs, monkeypatch):
    found = []
    get = ActivationStore.get

    def watch(store, backbone, cut, images, views):
        found.append(len(images))
        return get(store, backbone, cut, images, views)

    monkeypatch.setattr(ActivationStore, "get", watch)
    seen = []
    monkeypatch.setattr(
        timing, "train", lambda _, __, stored, labels, batches, *___: seen.extend(batches)
    )
    classifier = FineTunedClassifier(
        strategy="partial", cut="stage7", views=2, image_size=32, batch_size=9
    )
    time_fits([[classifier]], discs[0][0], classes)
    # The first warms up.
    assert found == [1, read]
    rows, views = seen[0]
    assert rows == [row % read for row in range(9)] and views == [0, 1] * 4 + [0]


def test_putting_the_features_of_solved_heads_together_is_timed_with_reading(discs, monkeypatch):
    done = []
    monkeypatch.setattr(
        "meninx.finetune.timing.compute_all_features", lambda *_: (done.append(1), time.sleep(0.4))
    )
    classifier = FineTunedClassifier(strategy="frozen", views=2, image_size=32, batch_size=4)
    ((times,),) = time_fits([[classifier]], discs[0][0], classes=3)
    assert done == [1] and times.reading > 0.4 / 4


def test_a_disturbed_step_and_what_is_around_the_steps_do_not_count_for_every_step(
    discs, monkeypatch
):
    seconds = [0.0]
    # The first step warms up, and another has to wait.
    steps = iter([50, 2, 80, 3])

    def train(suffix, head, stored, labels, batches, *_):
        seconds[0] += 5
        for _ in batches:
            seconds[0] += next(steps)
        seconds[0] += 2

    clock = SimpleNamespace(perf_counter=lambda: seconds[0])
    monkeypatch.setattr("meninx.finetune.timing.time", clock)
    monkeypatch.setattr("meninx.finetune.timing.train", train)
    classifier = FineTunedClassifier(
        strategy="partial", cut="stage7", views=2, image_size=32, batch_size=4
    )
    ((times,),) = time_fits([[classifier]], discs[0][0], classes=3)
    # What the first step took more than another is of a fit's start.
    assert (times.start, times.training) == (5 + 2 + 50 - 3, 3 / 4)


def test_each_networks_steps_are_timed_with_nothing_of_the_others_in_memory(discs, monkeypatch):
    events = []
    take_steps = timing._take_steps

    def watch(*arguments):
        events.append(arithmetic.bring_into_fast_form.cache_info().currsize)
        return take_steps(*arguments)

    monkeypatch.setattr(timing, "_take_steps", watch)
    monkeypatch.setattr(timing, "give_memory_back", lambda: events.append("given back"))
    classifiers = [
        FineTunedClassifier(
            strategy="partial", cut=cut, views=2, image_size=32, batch_size=4, precision="float32"
        )
        for cut in ("stage6", "stage7")
    ]
    time_fits([classifiers], discs[0][0], classes=3)
    # Of two networks; no fast form of a prefix is left.
    assert events == ["given back", 0] * 2


def test_a_prediction_is_timed_on_as_many_views_as_run_at_a_time(discs, monkeypatch):
    seconds = [0.0]
    seen = []

    def compute(suffix, activations, views):
        seen.append(views)
        seconds[0] += 3 * views

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    monkeypatch.setattr(timing, "compute_all_features", compute)
    settings = {"strategy": "partial", "cut": "stage7", "image_size": 32, "batch_size": 4}
    for views, some in ((8, 4), (2, 2)):
        classifier = FineTunedClassifier(views=views, **settings)
        ((times,),) = time_fits([[classifier]], discs[0][0], classes=3)
        # Once before, to warm up.
        assert seen == [some] * 2 and times.prediction == 3 * views
        seen.clear()


@pytest.mark.parametrize(("images", "classes"), [(6, 2), (12, 3), (3000, 3)])
def test_linear_heads_of_a_few_and_of_many_images_can_be_timed(images, classes, monkeypatch):
    # By the clock one head alone may take as long as ten where other processes are busy.
    clock = SimpleNamespace(perf_counter=time.thread_time)
    monkeypatch.setattr("meninx.finetune.timing.time", clock)
    # Of as many features as a study's; of 24 ten heads often take no longer than one.
    with one_thread():
        first, another = time_heads(8, 1280, images, classes)
    assert first >= 0 and another > 0


def test_many_heads_together_are_timed_by_one_and_a_few(monkeypatch):
    seconds = [0.0]
    solved = []

    def solve(features, labels, sides, regularisation):
        solved.append(len(sides))
        seconds[0] += 3 + 2 * len(sides)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    monkeypatch.setattr(timing, "solve_linear_heads", solve)
    assert time_heads(2, 24, images=12, classes=3) == (3, 2)
    assert solved == [10, 1]


def test_fits_that_solve_linear_heads_take_what_those_take():
    times = FitTimes(activations=1.0, reading=2.0, start=3.0, training=4.0, prediction=5.0)
    many = FineTunedClassifier(strategy="frozen")
    assert times.with_heads(many, 10.0, 0.1) == replace(times, start=10.0, training=0.1)
    # Each fit begins with one.
    once = FineTunedClassifier(strategy="partial", cut="stage7")
    assert times.with_heads(once, 10.0, 0.1) == replace(times, start=13.1)
    for settings in ({"strategy": "full"}, {"strategy": "frozen", "extra_layers": (4,)}):
        assert times.with_heads(FineTunedClassifier(**settings), 10.0, 0.1) == times


def test_the_looks_that_are_counted_are_those_that_are_taken(discs, monkeypatch):
    taken = []
    cross_entropy = functional.cross_entropy
    monkeypatch.setattr(
        functional,
        "cross_entropy",
        lambda logits, *rest, **named: (
            taken.append(len(logits)),
            cross_entropy(logits, *rest, **named),
        )[1],
    )
    classifier = FineTunedClassifier(
        strategy="partial", cut="stage7", views=2, image_size=64, epochs=2
    )
    copy.deepcopy(classifier).fit(*discs)
    assert sum(taken) == classifier.count_looks(len(discs[0]))
