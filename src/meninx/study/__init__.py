"""The study: the spine that joins every stage.

It stands on all of them: a cohort is audited, measured and planned for; models are trained and
evaluated; the best is explained and bundled; the report is written. In comes a cohort, out
comes a run folder. Read :meth:`Study.run` from top to bottom.
"""

from meninx.study.clock import LEAST, MOST
from meninx.study.comparison import compare_runs
from meninx.study.plan import Model, Plan
from meninx.study.study import DEFAULT_BACKBONES, Study

__all__ = [
    "DEFAULT_BACKBONES",
    "LEAST",
    "MOST",
    "Model",
    "Plan",
    "Study",
    "compare_runs",
]
