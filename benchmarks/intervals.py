"""How often the intervals, tests and sets of Meninx hold what they say, in simulated studies.

Run ``python -m benchmarks.intervals`` from the root; it writes ``docs/statistics.md`` and needs
../shared/data. About twenty minutes of one core.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import skimage
from tests.simulated_studies import (
    find_truth,
    shuffle_labels,
    simulate_learning,
    simulate_model,
    simulate_models,
)

from meninx.cohort import Cohort, as_head, fingerprint_of
from meninx.errors import ImageError
from meninx.evaluate import (
    Estimate,
    assess_calibration,
    compare_with_each,
    evaluate,
    fit_learning_curve,
    measure_predictive_values,
    permutation_test,
    select_best,
)
from meninx.evaluate.bootstrap import draw_patients
from meninx.evaluate.learning_curve import PowerLaw
from meninx.evaluate.scores import measure_balanced_accuracy
from meninx.ood import OODDetector

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
STUDIES = 400
# Of choices among models: with half as many as above, chance alone showed 99 % for 97.
CHOICES = 1000
SKILLS = (0.0, 1.0, 2.0, 2.6, 3.4)
SETTINGS = {
    "1 image a patient, 1 repeat": {},
    "1 image, 5 repeats": {"repeats": 5},
    "4 images, 1 repeat": {"images_per_patient": 4},
}
SHOWN = (
    "balanced_accuracy",
    "macro_f1",
    "specificity",
    "auc",
    "log_loss",
    "brier",
    "calibration_error",
)
LAWS = (
    PowerLaw(0.05, 1.2, 0.5),
    PowerLaw(0.0, 1.0, 0.3),
    PowerLaw(0.1, 3.0, 1.0),
    PowerLaw(0.02, 2.0, 0.7),
    PowerLaw(0.3, 0.3, 0.5),
)


def holds(estimate: Estimate, truth: float) -> bool:
    """Tell whether an interval holds the truth."""
    return estimate.low <= truth <= estimate.high


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.0f}"


def write_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def measure_coverage() -> str:
    """Measure the coverage of each score's interval, by setting and skill."""
    rows = []
    for name, settings in SETTINGS.items():
        for skill in SKILLS:
            random = np.random.default_rng(0)
            truth, by_class = find_truth(skill)
            held: dict[str, float] = defaultdict(float)
            for study in range(STUDIES):
                model = simulate_model(random, skill, **settings)
                scores = evaluate(model, seed=study)
                for score in SHOWN:
                    held[score] += holds(scores.overall[score], truth[score])
                held["class"] += holds(
                    scores.by_class["a"]["sensitivity"], by_class["sensitivity"][0]
                )
                draws = draw_patients(model.labels, model.patients, 500, seed=study)
                low, high = np.quantile(measure_balanced_accuracy(model, draws), [0.025, 0.975])
                held["percentile"] += low <= truth["balanced_accuracy"] <= high
            columns = (*SHOWN, "class", "percentile")
            rows.append(
                [name, f"{truth['balanced_accuracy']:.2f}"]
                + [percent(held[column] / STUDIES) for column in columns]
            )
    header = [
        "setting",
        "true balanced accuracy",
        *(name.replace("_", " ") for name in SHOWN),
        "sensitivity of a class of 16",
        "percentile bootstrap of balanced accuracy",
    ]
    return write_table(header, rows)


def measure_choice() -> str:
    """Show what choosing among models does to the naive score and to the headline."""
    rows = []
    cases = {
        "30 models, labels shuffled": [1.0] * 30,
        "10 equal models": [1.0] * 10,
        "10 equal good models": [2.0] * 10,
        "10 models, all different": list(np.linspace(1.6, 2.6, 10)),
        "10 excellent models": [2.6] * 10,
    }
    for name, skills in cases.items():
        for repeats in (1, 5):
            random = np.random.default_rng(0)
            naive, headline, held, width, naive_held = [], [], [], [], []
            for study in range(CHOICES):
                models = simulate_models(random, skills, repeats=repeats)
                if "shuffled" in name:
                    models = shuffle_labels(random, models)
                selection = select_best({str(i): model for i, model in enumerate(models)}, study)
                truth = (
                    1 / 3
                    if "shuffled" in name
                    else find_truth(skills[int(selection.chosen)])[0]["balanced_accuracy"]
                )
                naive.append(selection.naive.value - truth)
                headline.append(selection.headline.value - truth)
                naive_held.append(holds(selection.naive, truth))
                held.append(holds(selection.headline, truth))
                width.append(selection.headline.high - selection.headline.low)
            rows.append(
                [
                    name,
                    repeats,
                    f"{100 * np.mean(naive):+.1f}",
                    percent(np.mean(naive_held)),
                    f"{100 * np.mean(headline):+.1f}",
                    percent(np.mean(held)),
                    f"{np.mean(width):.2f}",
                ]
            )
    header = [
        "models",
        "repeats",
        "naive: points too high",
        "naive: coverage, %",
        "headline: points too high",
        "headline: coverage, %",
        "headline: width",
    ]
    return write_table(header, rows)


def measure_tests() -> str:
    """Count false findings of the tests, and coverage of differences."""
    rows = []
    for skill in (0.0, 1.0, 2.0, 2.6):
        random = np.random.default_rng(0)
        found, any_found, held, chance = [], [], [], []
        for study in range(STUDIES // 2):
            models = simulate_models(random, [skill] * 5)
            others = {str(i): model for i, model in enumerate(models[1:])}
            compared = list(compare_with_each(models[0], others, study).values())
            found.append(compared[0].p_value < 0.05)
            held.append(holds(compared[0].difference, 0))
            any_found.append(min(comparison.p_adjusted for comparison in compared) < 0.05)
            shuffled = shuffle_labels(random, models)
            named = {str(i): model for i, model in enumerate(shuffled)}
            chance.append(permutation_test(named, study).p_value < 0.05)
        rows.append(
            [
                f"{find_truth(skill)[0]['balanced_accuracy']:.2f}",
                *(percent(np.mean(values)) for values in (found, any_found, chance, held)),
            ]
        )
    header = [
        "true balanced accuracy of all five",
        "one comparison: p < 0.05, %",
        "any of four after Holm, %",
        "against chance, labels shuffled: p < 0.05, %",
        "interval of a difference holds 0, %",
    ]
    return write_table(header, rows)


def measure_trust() -> str:
    """Measure coverage of sets and predictive values, and what calibration errors show."""
    rows = []
    prevalence = {"a": 0.02, "b": 0.49, "c": 0.49}
    for skill, scale in ((1.0, 1.0), (2.0, 2.0), (2.6, 2.6), (2.0, 6.0), (3.4, 6.0)):
        for name, settings in SETTINGS.items():
            random = np.random.default_rng(0)
            truth, by_class = find_truth(skill, scale)
            sensitivity = by_class["sensitivity"][0]
            alarms = 0.02 * sensitivity, 0.98 * (1 - by_class["specificity"][0])
            worth = alarms[0] / sum(alarms)
            values: dict[str, list[float]] = defaultdict(list)
            for study in range(STUDIES):
                model = simulate_model(random, skill, scale=scale, **settings)
                trust = assess_calibration(model, study)
                sets = trust.sets
                values["coverage"].append(sets.coverage.value)
                values["class"].append(min(one.coverage.value for one in sets.by_class.values()))
                values["cannot"].append((sets.empty + sets.several) / sets.images)
                values["before"].append(trust.before.error.value)
                values["perfect"].append(trust.before.error_if_perfect)
                values["after"].append(trust.after.error.value)
                values["perfect after"].append(trust.after.error_if_perfect)
                predictive = measure_predictive_values(model, prevalence, study)["a"].ppv
                values["ppv"].append(holds(predictive, worth))
                values["held"].append(holds(trust.before.error, truth["calibration_error"]))
            means = {key: np.mean(found) for key, found in values.items()}
            rows.append(
                [
                    name,
                    f"{truth['balanced_accuracy']:.2f}",
                    f"{truth['calibration_error']:.3f}",
                    percent(means["coverage"]),
                    percent(means["class"]),
                    percent(means["cannot"]),
                    f"{means['before']:.3f}",
                    f"{means['perfect']:.3f}",
                    percent(means["held"]),
                    f"{means['after']:.3f}",
                    f"{means['perfect after']:.3f}",
                    percent(means["ppv"]),
                ]
            )
    header = [
        "setting",
        "true balanced accuracy",
        "true calibration error",
        "sets hold the true class, %",
        "lowest class, %",
        "cannot tell, %",
        "calibration error",
        "if perfect",
        "its interval: coverage, %",
        "after temperature",
        "if perfect then",
        "PPV at 2 %: coverage, %",
    ]
    return write_table(header, rows)


def measure_learning() -> str:
    """Measure the coverage of forecasts."""
    rows = []
    for sizes, full in (((16, 22, 15), 42), ((100, 100, 100), 240)):
        held_by_law = []
        for law in LAWS:
            random = np.random.default_rng(0)
            training = [round(full * part) for part in (0.25, 0.4, 0.6, 0.8, 1)]
            held, wrong, width = np.zeros(2), np.zeros(2), np.zeros(2)
            for study in range(STUDIES // 2):
                curve = fit_learning_curve(simulate_learning(random, law, training, sizes), study)
                for place, forecast in enumerate(curve.forecast):
                    truth, found = law.score(full * forecast.factor), forecast.balanced_accuracy
                    held[place] += holds(found, truth)
                    wrong[place] += abs(found.value - truth)
                    width[place] += found.high - found.low
            held, wrong, width = (values / (STUDIES // 2) for values in (held, wrong, width))
            held_by_law.append(held)
            rows.append(
                [
                    sum(sizes),
                    f"{law.asymptote} + {law.scale} n^-{law.exponent}",
                    *(f"{law.score(full * factor):.2f}" for factor in (1, 2, 4)),
                    *(f"{percent(held[i])} % ({wrong[i]:.3f}; {width[i]:.2f})" for i in (0, 1)),
                ]
            )
        of_all = [f"{percent(share)} %" for share in np.mean(held_by_law, axis=0)]
        rows.append([sum(sizes), "all five, in the mean", "", "", "", *of_all])
    header = [
        "patients",
        "error",
        "true score now",
        "at 2×",
        "at 4×",
        "forecast at 2×: coverage (mean distance; width)",
        "at 4×",
    ]
    return write_table(header, rows)


def read_what_can_be_read(files: Iterable[Path]) -> list[np.ndarray]:
    """Read images as a study does; packages hold files of no image, too."""
    images = []
    for file in files:
        with contextlib.suppress(ImageError):
            images.append(as_head(file))
    return images


def measure_ood() -> str:
    """Count which images the detector of the 53 real ones flags."""
    cohort = Cohort.open(DATA / "cemri53")
    detector = OODDetector.fit(cohort.images, cohort.groups)
    learned_from = {sample.fingerprint for sample in cohort.samples}
    random = np.random.default_rng(0)
    scans, pictures = Path(pydicom.__file__).parent, Path(skimage.__file__).parent
    volumes = (Path(nibabel.__file__).parent / "tests" / "data").iterdir()
    same = sorted((DATA / "cemri").rglob("*.jpg"))[::10]
    kinds = {
        "photographs (../shared/data/photos)": (DATA / "photos").glob("*.jpg"),
        "test images of scikit-image: photographs, textures, microscopy, retina, text": (
            pictures / "data"
        ).iterdir(),
        "test files of pydicom: CT, MR of other parts, ultrasound, other": (
            scans / "data" / "test_files"
        ).rglob("*.dcm"),
        "test volumes of nibabel: functional MRI and other": volumes,
        "noise": [random.uniform(0, 1, (200, 160)).astype(np.float32) for _ in range(10)],
        "blank frames": [np.full((128, 128), value, np.float32) for value in (0, 0.5, 1)],
        "of the same source (../shared/data/cemri), other images: should pass": [
            file for file in same if fingerprint_of(file) not in learned_from
        ],
    }
    rows = []
    for kind, files in kinds.items():
        assessed = detector.assess(read_what_can_be_read(files))
        flagged = sum(ood.is_out_of_distribution for ood in assessed)
        rows.append([kind, len(assessed), flagged])
    rate = detector.false_alarm_rate
    rows.append(
        [
            "those learned from, held out, as the report says it: should pass",
            detector.images,
            f"{detector.alarms} ({100 * rate.value:.0f} %, 95 % interval "
            f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %)",
        ]
    )
    return write_table(["images", "read", "flagged"], rows)


def main() -> None:
    """Write the page."""
    started, tables = time.process_time(), {}
    for name, measure in {
        "coverage": measure_coverage,
        "choice": measure_choice,
        "tests": measure_tests,
        "trust": measure_trust,
        "learning": measure_learning,
        "ood": measure_ood,
    }.items():
        tables[name] = measure()
        print(name, round(time.process_time() - started), "s", flush=True)
    text = (ROOT / "benchmarks" / "intervals.md.template").read_text()
    for name, table in tables.items():
        text = text.replace(f"{{{{ {name} }}}}", table)
    text = text.replace("{{ studies }}", str(STUDIES)).replace("{{ choices }}", f"{CHOICES:,}")
    (ROOT / "docs" / "statistics.md").write_text(text)


if __name__ == "__main__":
    main()
