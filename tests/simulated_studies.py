"""Studies whose truth is known, to see whether the statistics find it.

A patient's image has a latent value for each class; its true class's is raised by the model's
skill, and the highest is the answer. Latent values are partly of the patient, partly of the
image, of the model and of the repeat, and always vary by 1 in all, so that a model's true score
depends on its skill alone.
"""

from functools import cache

import numpy as np
from scipy.stats import norm

from meninx.evaluate import Predictions
from meninx.evaluate.calibration_error import measure_calibration_error
from meninx.evaluate.scores import measure

CLASSES = ("a", "b", "c")
SIZES = (16, 22, 15)  # patients of the flagship's classes
MANY = (3200, 4400, 3000)
TEN_TIMES_AS_MANY = tuple(10 * size for size in MANY)
OF_THE_PATIENT = 0.7  # part of an image's latent variance, where a patient has several
OF_THE_IMAGE = 0.8  # part that repeats have in common, where there are several


def simulate_models(
    random, skills, sizes=SIZES, repeats=1, images_per_patient=1, in_common=0.7, scale=1.0
):
    """Simulate models on the same patients, one for each skill.

    ``in_common`` is the part of the latent variance that is the same for all models, ``scale``
    what logits are multiplied by: other than 1, probabilities are ill calibrated.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    patients = np.repeat(np.arange(len(labels)), images_per_patient)
    shared = draw_latents(random, patients, len(sizes), images_per_patient)
    labels = labels[patients]
    models = []
    for skill in skills:
        own = draw_latents(random, patients, len(sizes), images_per_patient)
        latent = np.sqrt(in_common) * shared + np.sqrt(1 - in_common) * own
        part = OF_THE_IMAGE if repeats > 1 else 1
        noise = random.normal(size=(repeats, *latent.shape))
        logits = np.sqrt(part) * latent + np.sqrt(1 - part) * noise
        logits[:, np.arange(len(labels)), labels] += skill
        odds = np.exp(scale * (logits - logits.max(axis=2, keepdims=True)))
        probabilities = odds / odds.sum(axis=2, keepdims=True)
        models.append(Predictions(CLASSES, labels, patients, probabilities))
    return models


def draw_latents(random, patients, classes, images_per_patient):
    of_patients = random.normal(size=(patients[-1] + 1, classes))[patients]
    if images_per_patient == 1:
        return of_patients
    of_images = random.normal(size=of_patients.shape)
    return np.sqrt(OF_THE_PATIENT) * of_patients + np.sqrt(1 - OF_THE_PATIENT) * of_images


def simulate_model(random, skill, **settings):
    return simulate_models(random, [skill], **settings)[0]


def shuffle_labels(random, models):
    """Give the labels to the wrong images: nothing can be known any more."""
    labels = random.permutation(models[0].labels)
    return [Predictions(CLASSES, labels, model.patients, model.probabilities) for model in models]


@cache
def find_truth(skill, scale=1.0):
    """Give the scores of a model on 10,600 patients; its calibration error on ten times as many.

    PermutationTest still makes 0.01 of calibration error with 10,600, and a third of that here.
    """
    random = np.random.default_rng(1)
    model = simulate_model(random, skill, sizes=MANY, scale=scale)
    larger = simulate_model(random, skill, sizes=TEN_TIMES_AS_MANY, scale=scale)
    shares = measure(model, np.ones((1, len(model.labels))))
    truth = {
        **{name: values[0] for name, values in shares.overall.items()},
        "log_loss": model.losses.mean(),
        "brier": model.squared_errors.mean(),
        "calibration_error": measure_calibration_error(larger),
    }
    return truth, {name: values[0] for name, values in shares.by_class.items()}


def simulate_learning(random, law, training_patients, sizes=SIZES, repeats=3, in_common=0.7):
    """Simulate one model trained on several numbers of patients; ``law`` gives its accuracy."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    shared = random.normal(size=len(labels))
    models = {}
    for size in training_patients:
        own = random.normal(size=(repeats, len(labels)))
        latent = np.sqrt(in_common) * shared + np.sqrt(1 - in_common) * own
        limit = norm.ppf(law.score(size))
        given = np.where(latent < limit, labels, (labels + 1) % len(sizes))
        probabilities = 0.1 + 0.7 * np.eye(len(sizes))[given]
        models[float(size)] = Predictions(CLASSES, labels, np.arange(len(labels)), probabilities)
    return models
