"""Explanation: the heatmap lies where the class is."""

import io

import numpy as np
import torch
from PIL import Image
from torch import nn

from meninx.explain import crop_to_image, draw_image, draw_overlay, explain


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
