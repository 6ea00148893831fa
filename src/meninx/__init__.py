"""Meninx: honest transfer learning for small sets of brain MRI.

The package is laid out as its job flows, one folder a stage::

    cohort -> backbones -> matrix -> finetune -> evaluate -> explain -> bundle -> report
                                                                     (study joins them)

Follow :meth:`meninx.study.Study.run` from top to bottom to meet each of them once.
Research software, not a medical device.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("meninx")

# Public names and the stage that holds each. They are imported on first use, because
# torch takes seconds to import and `meninx --help` must not wait for it.
_STAGE_OF = {
    "Cohort": "cohort",
    "Backbone": "backbones",
    "SizeSimilarityMatrix": "matrix",
    "Strategy": "finetune",
    "FineTunedClassifier": "finetune",
    "Plan": "study",
    "Study": "study",
    "Bundle": "bundle",
}

__all__ = ["__version__", *sorted(_STAGE_OF)]


def __getattr__(name: str) -> object:
    if name in _STAGE_OF:
        return getattr(import_module(f"meninx.{_STAGE_OF[name]}"), name)
    raise AttributeError(f"module 'meninx' has no attribute {name!r}")
