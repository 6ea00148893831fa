"""Measure how often the search for copies is wrong: false pairs, and planted copies it misses.

A false pair is of two known patients (or lesions, or folds); where patients are not known, the
pairs across classes are printed to be looked at. Copies are planted one an image, each changed in
one of the ways below; small draws of each set are looked at too. Prints the table of docs/audit.md:

    python benchmarks/copies.py --data ../shared/data
"""

import argparse
import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from meninx.cohort import Sample
from meninx.cohort.file_index import Entry, list_folder, list_manifest
from meninx.cohort.near_duplicates.confirm import find_copies
from meninx.cohort.sampling import USUAL_RULE, read_samples
from meninx.phantom import phantom

SETS = ("alzheimer", "busi", "skin", "wbc", "handsigns", "steel", "catsdogs")
Change = Callable[[Image.Image], Image.Image]


def rescale(factor: float) -> Change:
    """Make a picture larger or smaller."""
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    )


def compress(quality: int) -> Change:
    """Write and read a picture as JPEG."""

    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return change


def shade(rule: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the brightness of a picture, 0 to 1."""

    def change(image: Image.Image) -> Image.Image:
        values = np.clip(rule(np.asarray(image, float) / 255), 0, 1)
        return Image.fromarray((255 * values).round().astype(np.uint8))

    return change


def crop(image: Image.Image, part: float = 0.05) -> Image.Image:
    """Cut off a part of a side, more on the right and at the bottom."""
    width, height = image.size
    box = (part / 3 * width, part / 4 * height, (1 - part * 2 / 3) * width, (1 - part) * height)
    return image.crop(tuple(round(edge) for edge in box))


def rotate(image: Image.Image) -> Image.Image:
    """Rotate by 2 degrees; the corners become black."""
    return image.rotate(2, Image.Resampling.BICUBIC)


CHANGES: dict[str, Change] = {
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "half": rescale(0.5),
    "0.7": rescale(0.7),
    "larger": rescale(1.5),
    "JPEG 50": compress(50),
    "JPEG 75": compress(75),
    "cropped": crop,
    "brighter": shade(lambda values: 0.7 * values + 0.25),
    "gamma": shade(lambda values: values**0.7),
    "rotated": rotate,
    "mirrored, 0.7, JPEG 60": lambda it: compress(60)(rescale(0.7)(CHANGES["mirrored"](it))),
    "half, JPEG 75": lambda image: compress(75)(rescale(0.5)(image)),
    "rotated, cropped, JPEG 75": lambda image: compress(75)(crop(rotate(image), 0.04)),
}


def open_set(folder: Path) -> list[Sample]:
    """Read a set: a manifest, a folder of classes, or a folder of pictures."""
    if (folder / "manifest.csv").is_file():
        entries, _ = list_manifest(folder / "manifest.csv", None, False)
    elif pictures := sorted(folder.glob("*.jpg")):
        entries = [Entry(picture, picture.name, "picture", None) for picture in pictures]
    else:
        entries = list_folder(folder, None)
    return read_samples(entries, USUAL_RULE)[0]


def plant(samples: list[Sample], rows: np.ndarray, folder: Path) -> tuple[list[Sample], list[str]]:
    """Write a changed copy of some images, each changed in the next way."""
    names = [list(CHANGES)[number % len(CHANGES)] for number in range(len(rows))]
    entries = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        with Image.open(samples[row].path) as image:
            grey_or_colour = image if image.mode in ("L", "RGB") else image.convert("RGB")
            file = folder / f"{number}.png"
            CHANGES[name](grey_or_colour).save(file)
        entries.append(Entry(file, file.name, samples[row].label, None))
    return read_samples(entries, USUAL_RULE)[0], names


def count_planted(samples: list[Sample], count: int, seed: int) -> tuple[int, int, Counter[str]]:
    """Plant copies and count them, those that are found, and the ways that are missed."""
    rows = np.random.default_rng(seed).permutation(len(samples))[:count]
    with tempfile.TemporaryDirectory() as folder:
        planted, names = plant(samples, rows, Path(folder))
        pairs = {tuple(pair) for pair in find_copies([*samples, *planted]).tolist()}
    missed = [
        name
        for number, (row, name) in enumerate(zip(rows, names, strict=True))
        if (row, len(samples) + number) not in pairs
    ]
    return len(rows), len(rows) - len(missed), Counter(missed)


def find_between(samples: list[Sample]) -> list[tuple[Sample, Sample]]:
    """Find the copies between patients or folds, except identical pixels."""
    pairs = [(samples[one], samples[other]) for one, other in find_copies(samples)]
    return [
        (one, other)
        for one, other in pairs
        if one.fingerprint != other.fingerprint
        and (one.patient != other.patient if one.fold is None else one.fold != other.fold)
    ]


def describe(name: str, samples: list[Sample], draws: int, planted: int) -> str:
    """Measure one set and make its row of the table."""
    started = time.process_time()
    between = find_between(samples)
    seconds = time.process_time() - started
    across = [(one, other) for one, other in between if one.label != other.label]
    for one, other in across:
        print(f"  {name}: {one.label}/{one.path.name} = {other.label}/{other.path.name}")
    in_draws = 0
    for seed in range(draws):
        random = np.random.default_rng(seed)
        size = (53, 53, 20, 8)[seed % 4]
        drawn = [samples[row] for row in sorted(random.permutation(len(samples))[:size])]
        known = {(one.path, other.path) for one, other in between}
        in_draws += sum((a.path, b.path) not in known for a, b in find_between(drawn))
    totals = [
        count_planted(samples, planted, seed) for seed in range(max(1, planted // len(samples)))
    ]
    there, found = (sum(total[place] for total in totals) for place in (0, 1))
    missed = sum((total[2] for total in totals), Counter())
    told = ", ".join(f"{way} {times}" for way, times in missed.most_common())
    return (
        f"| {name} | {len(samples)} | {len(between)} | {len(across)} | {in_draws} "
        f"| {found} of {there} ({found / there:.0%}) | {told or '–'} | {seconds:.1f} |"
    )


def main() -> None:
    """Print the table, a set a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="*", help="by default all")
    parser.add_argument("--draws", type=int, default=8, help="of 53, 53, 20 and 8 images in turn")
    parser.add_argument("--planted", type=int, default=70, help="copies")
    options = parser.parse_args()
    folders = {name: options.data / "suite" / name for name in SETS}
    folders |= {name: options.data / name for name in ("cemri53", "cemri", "photos")}
    print("| set | images | between patients | across classes | more in draws | planted, found |")
    with tempfile.TemporaryDirectory() as folder:
        folders["phantom"] = phantom(Path(folder) / "phantom", seed=0).parent
        for name in options.sets or folders:
            print(
                describe(name, open_set(folders[name]), options.draws, options.planted), flush=True
            )


if __name__ == "__main__":
    main()
