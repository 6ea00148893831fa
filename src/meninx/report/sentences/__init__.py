"""The sentences of the report that need deciding, from the numbers of a run.

In: a run folder and the words of a language. Out: sentences; none where the run does without
what they would tell.
"""

from meninx.report.sentences.answer import (
    name_backbones,
    name_strategy,
    tell_answer,
    tell_chance,
    tell_cut,
    tell_nested,
)
from meninx.report.sentences.audit import tell_affected
from meninx.report.sentences.growth import tell_growth, tell_patient_level
from meninx.report.sentences.matrix import tell_advice, tell_whether_advice_held
from meninx.report.sentences.methods import name_versions, tell_limits, tell_methods
from meninx.report.sentences.trust import (
    tell_calibration,
    tell_localisation,
    tell_ood,
    tell_prediction_sets,
    tell_sanity,
)

__all__ = [
    "name_backbones",
    "name_strategy",
    "name_versions",
    "tell_advice",
    "tell_affected",
    "tell_answer",
    "tell_calibration",
    "tell_chance",
    "tell_cut",
    "tell_growth",
    "tell_limits",
    "tell_localisation",
    "tell_methods",
    "tell_nested",
    "tell_ood",
    "tell_patient_level",
    "tell_prediction_sets",
    "tell_sanity",
    "tell_whether_advice_held",
]
