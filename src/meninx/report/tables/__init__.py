"""The tables of a run, each made from its files by one function.

In: a run folder and the words of a language. Out: tables by name; those of parts that the run
does without are not among them.
"""

from meninx.language.words import Words
from meninx.report.table import Table
from meninx.report.tables.chosen import (
    make_classes_table,
    make_confusion_table,
    make_measures_table,
    make_patient_classes_table,
    make_predictive_values_table,
)
from meninx.report.tables.scores import balanced_accuracy, make_choice_table, make_scores_table
from meninx.report.tables.study import (
    make_backbones_table,
    make_cohort_table,
    make_cost_table,
    make_left_out_table,
    make_plan_table,
)
from meninx.report.tables.trust import (
    make_calibration_table,
    make_forecast_table,
    make_localisation_table,
    make_prediction_sets_table,
    make_sanity_table,
)
from meninx.results import RunFolder

__all__ = ["balanced_accuracy", "make_tables"]

_MAKERS = (
    make_cohort_table,
    make_backbones_table,
    make_plan_table,
    make_cost_table,
    make_left_out_table,
    make_scores_table,
    make_choice_table,
    make_measures_table,
    make_confusion_table,
    make_classes_table,
    make_predictive_values_table,
    make_patient_classes_table,
    make_calibration_table,
    make_prediction_sets_table,
    make_forecast_table,
    make_sanity_table,
    make_localisation_table,
)


def make_tables(run: RunFolder, words: Words) -> dict[str, Table]:
    """Make every table that the run has the numbers for, by name."""
    tables = [make(run, words) for make in _MAKERS]
    return {table.name: table for table in tables if table is not None}
