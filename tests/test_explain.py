"""Explanation: the heatmap lies where the class is, and is tested before it is believed."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from meninx.explain import (
    Localisation,
    Marked,
    Sanity,
    crop_to_image,
    draw_image,
    draw_overlay,
    explain,
    occlude,
    randomize_weights,
)
from meninx.explain.sanity import randomise_layers


class Stage(nn.Module):
    """Keeps the image, four times smaller."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4)


def make_network():
    """Class 0 is brightness of the red channel, class 1 of the green."""
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        head.bias.zero_()
    network = nn.Sequential()
    network.add_module("stage1", Stage())
    network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("head", head)
    return network.eval()


def test_the_heatmap_is_where_the_class_is():
    inputs = torch.zeros(2, 3, 64, 64)
    inputs[:, 0, :16, :16] = 1  # red, top left
    inputs[:, 1, 48:, 48:] = 1  # green, bottom right
    red, green = explain(make_network(), inputs, [0, 1])
    assert red.shape == (64, 64) and red.max() <= 1 and red.min() >= 0
    assert red[:16, :16].sum() > 0.8 * red.sum()
    assert green[48:, 48:].sum() > 0.8 * green.sum()


class Widen(nn.Module):
    """Gives every place what the whole image holds, on a map half as fine."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 2) + x.mean(dim=(2, 3), keepdim=True)


@pytest.mark.parametrize(("side", "is_fine"), [(64, True), (48, False)])
def test_the_last_map_of_enough_models_is_explained(side, is_fine):
    """Behind it a coarser map knows the class too, and no longer where it was."""
    stage, pool, head = make_network()
    network = nn.Sequential()
    for name, child in zip(
        ("stage1", "stage2", "pool", "head"), (stage, Widen(), pool, head), strict=True
    ):
        network.add_module(name, child)
    inputs = torch.zeros(1, 3, side, side)
    inputs[:, 0, : side // 4, : side // 4] = 1
    (red,) = explain(network.eval(), inputs, [0])
    share = red[: side // 4, : side // 4].sum() / red.sum()
    assert (share > 0.8) == is_fine


def test_nothing_is_shown_where_nothing_spoke_for_the_class():
    assert explain(make_network(), torch.zeros(1, 3, 64, 64), [0]).max() == 0


def test_the_padding_is_cut_off_a_heatmap():
    heatmap = np.zeros((64, 64), np.float32)
    heatmap[16:48] = 1  # the image of 50 x 100 lies in the middle half of the square
    cropped = crop_to_image(heatmap, 50, 100)
    assert cropped.shape == (50, 100)
    assert cropped[3:-3].min() > 0.9


def test_an_overlay_leaves_the_image_as_it_is_where_the_heatmap_is_empty():
    image = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)
    plain = np.asarray(Image.open(io.BytesIO(draw_image(image))))
    same = np.asarray(Image.open(io.BytesIO(draw_overlay(image, np.zeros((8, 8))))))
    other = np.asarray(Image.open(io.BytesIO(draw_overlay(image, np.ones((8, 8))))))
    assert plain.shape == (8, 8, 3)
    np.testing.assert_array_equal(plain, same)
    assert (plain != other).any()


class Learned(nn.Module):
    """A convolution whose output shows where vertical stripes are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(3, 4, 5, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(8)
        )
        with torch.no_grad():
            stripes = torch.tensor([1.0, -1, 1, -1, 1]).expand(5, 5)
            self.layer[0].weight[:] = 0
            self.layer[0].bias[:] = 0
            self.layer[0].weight[0] = stripes
            self.layer[0].weight[1] = stripes.T

    def forward(self, x):
        return self.layer(x)


def make_learned_network():
    """Class 0 is vertical stripes, class 1 horizontal ones."""
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]))
        head.bias.zero_()
    network = nn.Sequential()
    network.add_module("stage1", Learned())
    network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("head", head)
    return network.eval().requires_grad_(False)


def draw_stripes(count):
    """Vertical stripes somewhere in noise; class 0."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.normal(0, 0.3, (count, 3, 64, 64)).astype(np.float32))
    for image in images:
        top, left = random.integers(0, 40, 2)
        image[:, top : top + 24, left : left + 24] += (torch.arange(24) % 2) * 2 - 1.0
    return images


def draw_edges(network, inputs, classes):
    """Draw what any image has, whatever the network knows: a method that must fail."""
    steps = nn.functional.pad(inputs.mean(dim=1).diff(dim=2).abs(), (0, 1))
    return (steps / steps.amax(dim=(1, 2), keepdim=True)).numpy()


def test_heatmaps_of_what_was_learned_pass_the_sanity_check():
    forgetting = randomize_weights(explain, make_learned_network(), draw_stripes(8), [0] * 8)
    assert forgetting.randomised == ("head", "stage1")
    assert forgetting.similarities.shape == (2, 8)
    sanity = Sanity.judge([forgetting, forgetting])
    assert sanity.is_passed and sanity.images == 16


def test_an_edge_detector_fails_the_sanity_check():
    forgetting = randomize_weights(draw_edges, make_learned_network(), draw_stripes(4), [0] * 4)
    sanity = Sanity.judge([forgetting])
    assert not sanity.is_passed
    assert sanity.similarity == pytest.approx(1)
    assert list(sanity.steps) == ["head", "stage1"]


def test_the_sanity_check_leaves_network_and_chance_as_they_were():
    network = make_learned_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    randomize_weights(explain, network, draw_stripes(2), [0, 0], seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert all((before[name] == value).all() for name, value in network.state_dict().items())
    assert not network.training


def test_the_same_seed_forgets_the_same():
    one, same, other = (
        randomize_weights(
            explain, make_learned_network(), draw_stripes(3), [0] * 3, seed
        ).similarities
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def draw_nothing(network, inputs, classes):
    return np.zeros((len(inputs), 64, 64), np.float32)


def test_heatmaps_that_were_empty_from_the_start_pass_no_check():
    forgetting = randomize_weights(draw_nothing, make_learned_network(), draw_stripes(2), [0, 0])
    assert np.isnan(forgetting.similarities).all()
    assert Sanity.judge([forgetting]) is None


def test_an_empty_heatmap_is_left_out_of_the_check_and_one_that_was_emptied_counts_as_changed():
    def draw_some(network, inputs, classes):
        heatmaps = draw_edges(network, inputs, classes)
        heatmaps[0] = 0
        if not bool((network.head.weight == torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])).all()):
            heatmaps[1] = 0
        return heatmaps

    forgetting = randomize_weights(draw_some, make_learned_network(), draw_stripes(3), [0] * 3)
    assert np.isnan(forgetting.similarities[:, 0]).all()
    assert forgetting.similarities[:, 1].tolist() == [0, 0]
    sanity = Sanity.judge([forgetting])
    assert sanity.images == 2 and sanity.similarity == pytest.approx(0.5)
    assert not sanity.is_passed


def test_layers_without_a_start_of_their_own_are_shuffled():
    part = nn.Module()
    part.scale = nn.Parameter(torch.arange(50.0))
    randomise_layers(part)
    assert (part.scale != torch.arange(50.0)).any()
    assert part.scale.sort().values.tolist() == list(range(50))


def test_occlusion_finds_the_place_that_the_class_hangs_on():
    inputs = torch.zeros(2, 3, 64, 64)
    inputs[:, 0, :16, :16] = 1
    inputs[:, 1, 48:, 48:] = 1
    red, green = occlude(make_network(), inputs, [0, 1])
    assert red.shape == (64, 64) and red.max() == 1 and red.min() == 0
    assert red[:24, :24].sum() > 0.9 * red.sum()
    assert green[40:, 40:].sum() > 0.9 * green.sum()
    assert occlude(make_network(), torch.zeros(1, 3, 64, 64), [0]).max() == 0


def mark(patient, hit):
    """A heatmap of one place, on the lesion or beside it; the lesion is a quarter of the head."""
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[2 if hit else 15, 2] = 1
    lesion, head = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    lesion[:5, :5], head[:10, :10] = True, True
    return Marked.measure(patient, heatmap, lesion, head)


def test_mass_on_the_lesion_is_held_against_its_share_of_the_head():
    hit, missed = mark("P-1", hit=True), mark("P-2", hit=False)
    assert (hit.mass, hit.chance, hit.is_pointed_at) == (1, 0.25, True)
    assert (missed.mass, missed.is_pointed_at) == (0, False)
    empty = Marked.measure(
        "P-3", np.zeros((4, 4)), np.eye(4, dtype=bool), np.ones((4, 4), dtype=bool)
    )
    assert empty.mass == 0 and not empty.is_pointed_at


def test_localisation_says_whether_it_beats_chance():
    good = Localisation.average([mark(f"P-{row}", hit=True) for row in range(8)])
    assert good.is_better_than_chance and good.gain.value == 4 and good.patients == 8
    assert good.pointing.low < 1
    mixed = Localisation.average([mark(f"P-{row}", hit=row < 3) for row in range(12)])
    assert not mixed.is_better_than_chance
    assert mixed.mass.low <= mixed.mass.value <= mixed.mass.high


def test_images_of_one_patient_narrow_no_interval():
    many = [mark(f"P-{row}", hit=row % 2 == 0) for row in range(10)]
    repeated = Localisation.average(many * 6)
    once = Localisation.average(many)
    assert repeated.patients == 10 and repeated.images == 60
    assert repeated.mass.high - repeated.mass.low == pytest.approx(once.mass.high - once.mass.low)
