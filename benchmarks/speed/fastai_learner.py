"""(a) fastai as its documentation advises: ``vision_learner`` and ``fine_tune(10)``.

``fine_tune`` trains the new head on the frozen body for one epoch and then everything for ten,
with its own rates and its one-cycle schedule. Validation runs each epoch on the side that is
predicted, as in the documentation; nothing is chosen by it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.torch_recipe import (
    BACKBONE,
    BATCH,
    MEAN,
    SIDE,
    STD,
    build_pretrained,
)
from fastai.vision.all import (  # type: ignore[import-untyped]
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    DataLoaders,
    ImageBlock,
    Normalize,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)

EPOCHS = 10
# One validation batch where the predicted images are too many to be validated on each epoch.
MOST_VALIDATED = BATCH


def make_loaders(files: LabelledFiles, tested: tuple[Path, ...]) -> DataLoaders:
    """Load files with fastai's usual augmentation, and validate on some that are predicted."""
    validated = tested[:MOST_VALIDATED]
    table = pd.DataFrame(
        {
            "path": [*map(str, files.paths), *map(str, validated)],
            # Whatever stands here is only shown as a metric, and no metric is asked for.
            "label": [*files.labels, *[files.labels[0]] * len(validated)],
            "is_valid": [False] * len(files) + [True] * len(validated),
        }
    )
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(SIDE),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(MEAN, STD)],
    )
    return block.dataloaders(table, bs=BATCH)


def fine_tune(files: LabelledFiles, tested: tuple[Path, ...], draw: Draw) -> np.ndarray:
    """Fine-tune and predict."""
    set_seed(draw.number)
    loaders = make_loaders(files, tested)
    # Not pretrained=True, which would ask the hub; the body gets the packaged weights.
    learner = vision_learner(loaders, BACKBONE, pretrained=False)
    body = build_pretrained()
    body.reset_classifier(0)
    learner.model[0].model.load_state_dict(body.state_dict())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(draw.epochs(EPOCHS))
        probabilities, _ = learner.get_preds(dl=loaders.test_dl([str(path) for path in tested]))
    return probabilities.double().numpy()
