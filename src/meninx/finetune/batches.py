"""Batches: what each step of training sees."""

import math

import numpy as np

from meninx.finetune.recipe import Recipe

# The rows of some images, and the view that each is seen in.
Batch = tuple[list[int], list[int]]


def count_steps(images: int, recipe: Recipe) -> int:
    """Count the optimiser's steps on some training images."""
    parts, epochs = _count_parts_and_epochs(images, recipe)
    return parts * epochs


def _count_parts_and_epochs(images: int, recipe: Recipe) -> tuple[int, int]:
    parts = max(1, round(images / recipe.batch_size))
    return parts, max(recipe.epochs, math.ceil(recipe.fewest_steps / parts))


def draw_batches(images: int, recipe: Recipe, seed: int) -> list[list[Batch]]:
    """Draw which images each step of each epoch sees, and in which of their views."""
    random = np.random.default_rng(seed)
    # Equal parts: a small last batch would have no batch statistics worth the name.
    parts, epochs = _count_parts_and_epochs(images, recipe)
    return [
        [
            (rows.tolist(), random.integers(recipe.views, size=len(rows)).tolist())
            for rows in np.array_split(random.permutation(images), parts)
        ]
        for _ in range(epochs)
    ]
