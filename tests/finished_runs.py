"""Run folders of studies that were never made, to render, and what a browser would see of them."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from meninx.language import Message

CLASSES = {"lm": 16, "leukemia": 22, "normal": 15}
STAGES = {"stem": 1, "stage1": 3, "stage2": 9, "stage3": 9, "stage4": 18, "stage5": 9}
KL_OF_STAGE = {
    "stem": 0.44, "stage1": 0.11, "stage2": 0.06, "stage3": 0.055, "stage4": 0.08, "stage5": 0.20,
}  # fmt: skip
CANDIDATES = {  # model: balanced accuracy, low, high
    "tf_efficientnet_lite0-partial-stage4": (0.79, 0.68, 0.90),
    "tf_efficientnet_lite1-partial-stage4": (0.77, 0.65, 0.88),
    "tf_efficientnet_lite0-frozen": (0.72, 0.59, 0.83),
    "tf_efficientnet_lite2-partial-stage4": (0.75, 0.63, 0.86),
    "tf_efficientnet_lite1-frozen": (0.70, 0.58, 0.82),
    "tf_efficientnet_lite2-frozen": (0.69, 0.56, 0.81),
}
BASELINES = {
    "majority": (0.333, 0.333, 0.333),
    "tf_efficientnet_lite0-scratch": (0.41, 0.29, 0.53),
    "histogram": (0.47, 0.35, 0.60),
}
CHOSEN = "tf_efficientnet_lite0-partial-stage4"
HOSTILE = ("<script>alert(1)</script>", "50%_a&b", "$x^{")


def interval(value, half_width):
    return {
        "value": value, "low": max(0.0, value - half_width), "high": min(1.0, value + half_width),
    }  # fmt: skip


def backbone_of(model):
    return model.split("-")[0] if "-" in model else ""


def strategy_of(model):
    return model.split("-")[1] if "-" in model else model


def cut_of(model):
    return {"partial": "stage4", "frozen": "head", "scratch": "stem"}.get(strategy_of(model))


def say(field, message):
    """Give what a file holds of a message: its English sentence, its code and its values."""
    return {field: message.text, "message": message.as_dict()}


def say_all(field, *messages):
    return {
        field: [message.text for message in messages],
        "messages": [message.as_dict() for message in messages],
    }


def write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def change_json(path: Path, **fields) -> None:
    write_json(path, json.loads(path.read_text()) | fields)


def write_csv(path: Path, columns, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_summary(run: Path, classes) -> None:
    images = sum(classes.values())
    summary = {
        "chosen": "tf_efficientnet_lite0-partial-stage4",
        "headline": {"balanced_accuracy": 0.742, "low": 0.61, "high": 0.862},
        "naive": {"balanced_accuracy": 0.79, "low": 0.68, "high": 0.90},
        "images": images, "patients": images, "seconds": 412.6, "seed": 7,
        "versions": {"meninx": "0.1.0", "torch": "2.14.1", "timm": "1.0.31"},
        "synthetic": False, "patients_known": False, "classes": classes,
        "folds": 5, "repeats": 5,
        **say_all("notes", Message("folds", asked=7, used=5)),
    }  # fmt: skip
    write_json(run / "summary.json", summary)


def write_matrix(run: Path, classes) -> None:
    random = np.random.default_rng(0)
    images = sum(classes.values())
    layers = [
        {
            "name": f"{stage}.{number}", "stage": stage,
            "kl": float(KL_OF_STAGE[stage] * random.lognormal(0, 0.3)),
        }
        for stage, count in STAGES.items()
        for number in range(count)
    ]  # fmt: skip
    matrix = {
        "images": images, "patients": images, "classes": classes,
        "similarity": {
            "kl": 0.113, "low": 0.104, "high": 0.131, "threshold": 0.06, "layers": layers,
        },
        "size": {"per_class": images / len(classes), "threshold": 1000},
        "quadrant": "Q3",
        "advice": {
            "strategy": "partial", "cut": "stage4",
            **say_all(
                "reasons",
                Message("size_few", images=17.7, threshold=1000),
                Message("unlike", kl=0.113, threshold=0.06),
            ),
        },
        "backbones": [
            {"name": f"tf_efficientnet_lite{n}", "logme": -0.61 - n / 50, "probe": 0.72 - n / 60,
             "milliseconds": 6.5 + 4 * n}
            for n in range(3)
        ],
        "references": [
            {"name": "ImageNet, 50 images", "kl": 0.010},
            {"name": "natural photographs", "kl": 0.023},
            {"name": "grey textures", "kl": 0.08},
            {"name": "chest X-ray", "kl": 0.134},
            {"name": "white noise", "kl": 0.63},
        ],
    }  # fmt: skip
    write_json(run / "matrix.json", matrix)


def write_models(run: Path, images) -> None:
    models = {model: "candidate" for model in CANDIDATES} | {
        model: "baseline" for model in BASELINES
    }
    plan = [
        {
            "model": model, "backbone": backbone_of(model) or None, "strategy": strategy_of(model),
            "cut": cut_of(model), "role": role, "repeats": 5,
            **say("reason", Message("advised" if "partial" in model else "asked")),
            "trained_parameters": 2_650_000 if "partial" in model else 3843,
        }
        for model, role in models.items()
    ]  # fmt: skip
    write_json(run / "plan.json", {"folds": 5, "models": plan})
    columns = [
        "model", "backbone", "strategy", "cut", "role", "balanced_accuracy",
        "balanced_accuracy_low", "balanced_accuracy_high", "macro_f1", "auc", "log_loss", "seconds",
    ]  # fmt: skip
    scores = CANDIDATES | BASELINES
    write_csv(
        run / "scores.csv",
        columns,
        [
            [model, backbone_of(model), strategy_of(model), cut_of(model), role, *scores[model],
             scores[model][0] - 0.01, "" if model == "majority" else scores[model][0] + 0.1,
             1.2 - scores[model][0], 41.3]
            for model, role in models.items()
        ],
    )  # fmt: skip
    for number, model in enumerate(one for one in models if "partial" in one):
        rows = [
            [0, fold, epoch, 1.1 * 0.9**epoch + 0.03 * fold + 0.1 * number, 4e-4, 1.5]
            for fold in range(2)
            for epoch in range(1, 21)
        ]
        columns = ["repeat", "fold", "epoch", "loss", "learning_rate", "seconds"]
        write_csv(run / "models" / model / "history.csv", columns, rows)
    names = ("balanced_accuracy", "macro_f1", "sensitivity", "specificity", "auc", "log_loss")
    return {
        model: {
            "repeats": 5,
            "scores": {name: interval(scores[model][0], 0.1) for name in names},
        }
        for model in models
    }


def write_evaluation(run: Path, classes, models) -> None:
    labels = list(classes)
    sensitivity = dict(zip(labels, (0.70, 0.82, 0.71), strict=True))
    per_class = {
        label: {
            "images": count, "patients": count,
            "sensitivity": interval(sensitivity[label], 0.19),
            "specificity": interval(0.88, 0.08),
            "auc": interval(0.84 + number / 40, 0.09),
        }
        for number, (label, count) in enumerate(classes.items())
    }  # fmt: skip
    rates = np.linspace(0, 1, 41)
    roc = {
        label: {
            "false_positive_rate": rates.tolist(),
            "true_positive_rate": (np.round(rates ** (0.2 + number / 10) * 16) / 16).tolist(),
        }
        for number, label in enumerate(labels)
    }
    confusion = [[11.2, 3.6, 1.2], [1.8, 18.0, 2.2], [1.4, 3.0, 10.6]]
    chosen = "tf_efficientnet_lite0-partial-stage4"
    evaluation = {
        "models": models,
        "chosen": {"model": chosen, "classes": per_class, "confusion": confusion, "roc": roc},
        "selection": dict(zip(CANDIDATES, (0.48, 0.27, 0.06, 0.13, 0.04, 0.02), strict=True)),
        "comparisons": [
            {"model": chosen, "against": model, "difference": {
                "value": 0.79 - value, "low": 0.79 - value - 0.1, "high": 0.79 - value + 0.11}}
            for model, (value, _, _) in (CANDIDATES | BASELINES).items()
            if model != chosen
        ],
    }  # fmt: skip
    write_json(run / "evaluation.json", evaluation)


def write_examples(run: Path, classes) -> None:
    labels = list(classes)
    (run / "examples").mkdir(parents=True)
    examples = []
    for number, predicted in enumerate([labels[0], labels[1], labels[1], labels[0]]):
        sample, label = f"S-{number:04x}", labels[number % 2]
        for kind in ("image", "heatmap"):
            Image.new("RGB", (32, 32), (90, 90, 90 + 40 * number)).save(
                run / "examples" / f"{sample}-{kind}.png"
            )
        examples.append(
            {
                "sample": sample, "label": label, "predicted": predicted,
                "probabilities": {
                    name: 0.7 if name == predicted else 0.15 for name in labels
                },
                "right": label == predicted,
                "image": f"examples/{sample}-image.png",
                "heatmap": f"examples/{sample}-heatmap.png",
            }
        )  # fmt: skip
    write_json(run / "examples.json", examples)


def write_run(run: Path, classes=CLASSES) -> Path:
    """Write a complete run folder with numbers of a plausible study."""
    run.mkdir(parents=True)
    write_summary(run, classes)
    write_matrix(run, classes)
    write_evaluation(run, classes, write_models(run, sum(classes.values())))
    labels = [label for label, count in classes.items() for _ in range(count)]
    write_csv(
        run / "cohort.csv",
        ["sample", "patient", "label", "fingerprint", "fold"],
        [[f"S-{n:04x}", f"P-{n:04x}", label, f"{n:064x}", n % 5] for n, label in enumerate(labels)],
    )
    findings = [
        {
            "kind": "small", "severity": "info", "files": [],
            **say("advice", Message("small", count=sum(classes.values()))),
        },
        {
            "kind": "exact-duplicates", "severity": "warning", "files": ["S-0003", "S-0009"],
            **say("advice", Message("duplicates_identical", what=Message("identical", count=2))),
        },
    ]  # fmt: skip
    write_json(run / "audit.json", {"findings": findings})
    write_examples(run, classes)
    return run


def write_statistics(run: Path, classes=CLASSES) -> Path:
    """Add to a run everything that it may do without."""
    evaluation = json.loads((run / "evaluation.json").read_text())
    labels, images = list(classes), sum(classes.values())
    for model in evaluation["models"].values():
        model["scores"] |= {
            "brier": interval(0.42, 0.1), "calibration_error": interval(0.12, 0.06),
        }  # fmt: skip
    for label, scores in evaluation["chosen"]["classes"].items():
        scores["predictive_values"] = {
            "prevalence": classes[label] / images, "is_cohort_prevalence": True,
            "ppv": interval(0.77, 0.17), "npv": interval(0.91, 0.08),
        }  # fmt: skip
    for number, comparison in enumerate(evaluation["comparisons"]):
        comparison |= {"p_value": 0.0004 + 0.03 * number, "p_adjusted": 0.0032 + 0.1 * number}
    evaluation |= {
        "chance": {
            "p_value": 0.0005, "permutations": 1999,
            "balanced_accuracy": {"value": 0.38, "low": 0.29, "high": 0.47},
        },
        "prediction_sets": {
            "level": 0.9, "is_class_conditional": True, "coverage": interval(0.91, 0.07),
            "images": images, "mean_size": 1.31, "empty": 1.2, "several": 10.8,
            "by_class": {
                label: {
                    "images": count, "coverage": interval(0.9, 0.1), "mean_size": 1.3,
                    "empty": 0.4, "several": 3.6,
                }
                for label, count in classes.items()
            },
        },
        "calibration": {
            "temperature": 1.43,
            "before": {
                "error": interval(0.16, 0.07), "error_if_perfect": 0.083,
                "log_loss": interval(0.71, 0.2), "bins": bins(0.55, 0.62, 0.74, 0.9, 0.98),
            },
            "after": {
                "error": interval(0.11, 0.06), "error_if_perfect": 0.087,
                "log_loss": interval(0.62, 0.15), "bins": bins(0.5, 0.6, 0.7, 0.8, 0.9),
            },
        },
        "patient_level": {
            "aggregation": "mean", "patients": 40,
            "scores": {name: interval(0.8, 0.1) for name in evaluation["models"][CHOSEN]["scores"]},
            "classes": {
                label: {key: value for key, value in scores.items() if key != "images"}
                for label, scores in evaluation["chosen"]["classes"].items()
            },
            "confusion": [[10, 2, 1], [1, 13, 1], [1, 1, 10]],
        },
        "learning_curve": {
            "model": CHOSEN,
            "points": [
                {"patients": size, "balanced_accuracy": interval(score, 0.12)}
                for size, score in ((10.4, 0.55), (21.2, 0.66), (31.8, 0.74), (42.4, 0.79))
            ],
            "fit": {"asymptote": 0.05, "scale": 1.2, "exponent": 0.48},
            "curve": [
                {"patients": float(size), "balanced_accuracy": interval(
                    0.95 - 1.2 * size ** -0.48, 0.03 + size / 2000)}
                for size in np.geomspace(10.4, 169.6, 30)
            ],
            "forecast": [
                {"factor": 2, "patients": 106, "balanced_accuracy": interval(0.83, 0.05),
                 "interval_width": 0.15},
                {"factor": 4, "patients": 212, "balanced_accuracy": interval(0.87, 0.08),
                 "interval_width": 0.1},
            ],
        },
        "nested": {
            "balanced_accuracy": {"value": 0.731, "low": 0.6, "high": 0.85},
            "chosen": {CHOSEN: 4, "tf_efficientnet_lite0-frozen": 1},
        },
        "ood": {
            "method": "Mahalanobis", "network": "tf_efficientnet_lite0", "level": 0.05,
            "false_alarm_rate": interval(0.057, 0.05), "images": images, "patients": images,
            "alarms": 3, "threshold": 40.0,
        },
        "advice": {
            "model": "tf_efficientnet_lite1-frozen", "best": CHOSEN, "p_value": 0.21,
            "difference": {"value": -0.09, "low": -0.2, "high": 0.02},
        },
    }  # fmt: skip
    write_json(run / "evaluation.json", evaluation)
    write_explanations(run, is_passed=True)
    write_costs(run)
    assert list(evaluation["chosen"]["classes"]) == labels
    return run


def bins(*confidences):
    return [
        {"confidence": confidence, "accuracy": confidence - 0.12 + 0.05 * number, "images": 11}
        for number, confidence in enumerate(confidences)
    ]


def write_explanations(run: Path, is_passed: bool) -> None:
    similarity = 0.21 if is_passed else 0.86
    explanations = {
        "method": "grad-cam",
        "sanity": {
            "passed": is_passed, "similarity": similarity, "low": similarity - 0.1,
            "high": similarity + 0.1, "threshold": 0.5, "images": 8,
            "steps": {
                stage: 0.9 - (0.9 - similarity) * number / 7
                for number, stage in enumerate(["head", *reversed(STAGES)], start=1)
            },
        },
        "localisation": {
            "images": 24, "patients": 20, "mass": interval(0.34, 0.1),
            "chance": interval(0.08, 0.02), "gain": {"value": 4.2, "low": 2.8, "high": 6.0},
            "pointing": interval(0.58, 0.2), "difference": interval(0.26, 0.09),
            "better_than_chance": True,
        },
    }  # fmt: skip
    write_json(run / "explanations.json", explanations)


def choose_ensemble(run: Path) -> Path:
    """Add an ensemble of the three trained models to a run, and let it be the chosen model."""
    plan = json.loads((run / "plan.json").read_text())
    members = [model for model in plan["models"] if model["strategy"] == "partial"]
    plan["models"].append(
        {
            **members[0], "model": "ensemble", "strategy": "ensemble", "cut": None,
            "backbone": " + ".join(model["backbone"] for model in members),
            "members": [model["model"] for model in members],
        }
    )  # fmt: skip
    write_json(run / "plan.json", plan)
    with (run / "scores.csv").open("a", newline="") as file:
        backbones = plan["models"][-1]["backbone"]
        csv.writer(file).writerow(
            ["ensemble", backbones, "ensemble", "", "candidate", 0.8, 0.7, 0.9, 0.8, 0.9, 0.5, 0.1]
        )
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["models"]["ensemble"] = evaluation["models"][CHOSEN]
    evaluation["selection"]["ensemble"] = 0.0
    write_json(run / "evaluation.json", evaluation)
    change_json(run / "summary.json", chosen="ensemble")
    return run


def write_costs(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    for number, model in enumerate(plan["models"]):
        model["predicted_seconds"] = 38.2 + number
    left_out = [
        {"model": "tf_efficientnet_lite2-full", **say("reason", Message("left_out", seconds=300)),
         "predicted_seconds": 123.4}
    ]  # fmt: skip
    write_json(run / "plan.json", {**plan, "left_out": left_out, "predicted_seconds": 431.7})


class Reader(HTMLParser):
    """What a browser would see: text, tags and everything a page may load or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


def contents(run: Path) -> dict[str, bytes]:
    """Read every file that a report consists of."""
    made = [
        run / "report.html", run / "model-card.md", *run.glob("checklist-*"),
        *(run / "figures").iterdir(), *(run / "tables").iterdir(),
    ]  # fmt: skip
    return {str(path.relative_to(run)): path.read_bytes() for path in made}
