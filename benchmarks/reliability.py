"""Read every file that others made to be difficult, and damaged ones: writes docs/reliability.md.

    python -m benchmarks.reliability                     all of it, and the document
    python -m benchmarks.reliability --seconds 60        so long for each kind of fuzzing
    python -m benchmarks.reliability fuzz --seconds 60   only fuzzing, nothing written

The files are the tests' own of pydicom and nibabel, which come inside their packages. What is read
is compared with a decode that shares no code with the readers: pixel bytes cut out of the file by
NumPy, or another decoder than the one used, scaled here by a few lines of arithmetic.
"""

import argparse
import datetime
import platform
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
from benchmarks.fuzzing import fuzz, run_atheris
from PIL import Image

from meninx.errors import ImageError
from meninx.imaging import read_image
from meninx.imaging.series import find_series

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
PYDICOM = Path(pydicom.data.__file__).parent
NIBABEL = Path(nibabel.__file__).parent
CLOSE = 0.002  # largest difference of two exact decodes, on the scale 0 to 1
CLOSE_ON_AVERAGE = 0.02  # of two decoders of a lossy stream
PACKAGES = (
    "pydicom", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "python-gdcm", "nibabel",
    "pillow", "tifffile", "h5py",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How reading one file ended: right, unchecked, wrong, refused or crash."""

    file: str
    ending: str
    note: str


def scale(values: np.ndarray) -> np.ndarray:
    """Scale by percentiles as read_image says it does."""
    values = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        low, high = values.min(), values.max()
    return np.clip((values - low) / (high - low), 0, 1)


def decode_dicom(path: Path, frame: int) -> np.ndarray | None:
    """Show a DICOM frame by arithmetic written here; None where there is no second way."""
    data = pydicom.dcmread(path, force=True)
    stored = _decode_stored(data, path, frame)
    if stored is None:
        return None
    if data.PhotometricInterpretation == "PALETTE COLOR":
        tables = []
        for colour in ("Red", "Green", "Blue"):
            table = getattr(data, f"{colour}PaletteColorLookupTableData")
            depth = data.RedPaletteColorLookupTableDescriptor[2]
            tables.append(np.frombuffer(table, "<u2" if depth > 8 else "u1"))
        return np.stack([table[stored] for table in tables], axis=-1)
    if stored.ndim == 3:
        return stored
    values = stored * float(data.get("RescaleSlope") or 1) + float(
        data.get("RescaleIntercept") or 0
    )
    values = _show_window(values, data)
    # Of all these files, those that lie otherwise than usual are mirrored from left to right.
    if sum((data.get("ImageOrientationPatient") or [0])[:3]) < -0.5:
        values = values[:, ::-1]
    return -values if data.PhotometricInterpretation == "MONOCHROME1" else values


def _show_window(values: np.ndarray, data: pydicom.Dataset) -> np.ndarray:
    if data.get("WindowWidth") is None:
        return values
    centre, width = (
        float(np.atleast_1d(data[k].value)[0]) for k in ("WindowCenter", "WindowWidth")
    )
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    shown = np.clip(values, low, high)
    return shown if shown.min() < shown.max() else values


def _decode_stored(data: pydicom.Dataset, path: Path, frame: int) -> np.ndarray | None:
    syntax = data.file_meta.get("TransferSyntaxUID") or pydicom.uid.ImplicitVRLittleEndian
    if syntax.is_compressed and not syntax.is_deflated:
        return _decode_otherwise(data, path, frame)
    samples, bits = int(data.get("SamplesPerPixel", 1)), int(data.BitsAllocated)
    if "422" in data.PhotometricInterpretation:
        return None
    rows, columns = int(data.Rows), int(data.Columns)
    size = rows * columns * samples
    if bits == 1:
        return np.unpackbits(np.frombuffer(data.PixelData, "u1"), bitorder="little")[
            frame * size : (frame + 1) * size
        ].reshape(rows, columns)
    content = data.PixelData
    if bits == 8 and not syntax.is_little_endian and data["PixelData"].VR == "OW":
        content = np.frombuffer(content, "<u2").byteswap().tobytes()  # bytes swapped in words
    order = "<" if syntax.is_little_endian else ">"
    kind = f"{order}{'iu'[data.get('PixelRepresentation', 0) == 0]}{bits // 8}"
    raw = np.frombuffer(content[: len(content) // (bits // 8) * (bits // 8)], kind)
    raw = raw[frame * size : (frame + 1) * size]
    if samples == 1:
        return raw.reshape(rows, columns)
    if data.get("PlanarConfiguration"):
        return raw.reshape(samples, rows, columns).transpose(1, 2, 0)
    return raw.reshape(rows, columns, samples)


def _decode_otherwise(data: pydicom.Dataset, path: Path, frame: int) -> np.ndarray | None:
    """Decode with the last of the decoders that know the syntax; Meninx takes the first."""
    from pydicom.pixels import get_decoder, pixel_array

    from meninx.imaging.decoding import DECODERS

    known = get_decoder(data.file_meta.TransferSyntaxUID).available_plugins
    for name in [name for name in (*DECODERS, "pydicom") if name in known][:0:-1]:
        try:
            return pixel_array(data, index=frame, decoding_plugin=name)
        except Exception:
            continue
    return None


def decode_nifti(path: Path) -> np.ndarray:
    """Give the middle axial slice of a NIfTI volume, oriented by hand."""
    image = nibabel.load(path)
    values = image.get_fdata()
    values = values.reshape(*values.shape[:3], -1)[..., 0]
    affine = image.affine[:3, :3]
    order = [
        int(np.abs(affine[world] / np.linalg.norm(affine, axis=0)).argmax()) for world in range(3)
    ]
    values = values.transpose(order)
    for world in range(3):
        if affine[world, order[world]] < 0:
            values = np.flip(values, world)
    middle = values[:, :, values.shape[2] // 2]
    return middle[::-1, ::-1].T


def judge(path: Path, name: str, decode: Callable[[int], np.ndarray | None]) -> Outcome:
    """Read a file's middle image and compare it with another decode of it."""
    try:
        read = read_image(path)
    except ImageError as refusal:
        return Outcome(name, "refused", str(refusal).removeprefix(f"{path}: "))
    except Exception as problem:
        return Outcome(name, "crash", f"{type(problem).__name__}")
    try:
        frames = int(getattr(pydicom.dcmread(path, force=True), "NumberOfFrames", 1) or 1)
        other = decode(frames // 2)
    except Exception as problem:
        return Outcome(name, "unchecked", f"no second decode ({type(problem).__name__})")
    if other is None:
        return Outcome(name, "unchecked", "no second decode")
    expected = scale(_stretch(other, read.shape))
    if expected.ndim == 3 and (expected == expected[..., :1]).all():
        expected = expected[..., 0]
    if expected.shape != read.shape:
        return Outcome(name, "wrong", f"{read.shape} where the other decode has {expected.shape}")
    difference = np.abs(expected - read)
    if difference.max() < CLOSE:
        return Outcome(name, "right", "equal")
    is_near = difference.mean() < CLOSE_ON_AVERAGE
    told = f"mean difference {difference.mean():.4f}, largest {difference.max():.3f}"
    return Outcome(name, "right" if is_near else "wrong", told)


def _stretch(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Make pixels square that are not: one side is stretched, here by another library."""
    same_sides = sum(own == other for own, other in zip(pixels.shape, shape, strict=False))
    if pixels.ndim != 2 or len(shape) != 2 or same_sides != 1:
        return pixels
    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))


def read_corpus() -> dict[str, list[Outcome]]:
    """Read the files of both packages; nibabel's in formats that are not read are included."""
    outcomes: dict[str, list[Outcome]] = {"pydicom": [], "nibabel": []}
    for path in sorted(PYDICOM.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            name = path.relative_to(PYDICOM).as_posix()
            outcomes["pydicom"].append(
                judge(path, name, lambda f, path=path: decode_dicom(path, f))
            )
    for path in sorted(NIBABEL.rglob("data/*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            name = path.relative_to(NIBABEL).as_posix()
            is_dicom = path.suffix == ".dcm"
            decode = (
                (lambda f, path=path: decode_dicom(path, f))
                if is_dicom
                else (lambda _, path=path: decode_nifti(path))
            )
            outcomes["nibabel"].append(judge(path, name, decode))
    return outcomes


def time_grouping(files: int) -> float:
    """Give the processor seconds that grouping so many DICOM files takes, headers only."""
    dataset = pydicom.dcmread(PYDICOM / "test_files" / "MR_small.dcm")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(files):
            dataset.SeriesInstanceUID = f"1.2.3.{number // 100}"
            dataset.SOPInstanceUID = f"1.2.3.4.{number}"
            dataset.ImagePositionPatient = [0, 0, number % 100]
            dataset.save_as(Path(folder) / f"{number}.dcm")
        start = time.process_time()
        series, _ = find_series(Path(folder))
        seconds = time.process_time() - start
    if len(series) != (files + 99) // 100:
        raise SystemExit(f"{len(series)} series instead of {files // 100}")
    return seconds


def write_document(
    outcomes: dict[str, list[Outcome]],
    fuzzed: Counter[str],
    guided: dict[str, int] | None,
    seconds: float,
    grouping: tuple[int, float],
) -> None:
    """Write docs/reliability.md."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    lines = [
        "# What the readers do with difficult files",
        "",
        f"Written by `python -m benchmarks.reliability` on {datetime.date.today()}, Python "
        f"{platform.python_version()}, {versions}. Do not edit.",
        "",
        "## Files made by others",
        "",
        "Every file in the packages of pydicom and nibabel is given to `read_image`, those of "
        "other formats too. *Right*: equal to a second decode (to 0.002 of the range), or, for "
        "lossy streams, within 0.02 on average. *Unchecked*: read, but no second decode exists "
        "here. *Refused*: a MeninxError with a reason.",
        "",
        "| package | files | right | unchecked | wrong | refused | crash |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for package, own in outcomes.items():
        counts = Counter(outcome.ending for outcome in own)
        models = [counts[e] for e in ("right", "unchecked", "wrong", "refused", "crash")]
        lines.append(f"| {package} | {len(own)} | {' | '.join(map(str, models))} |")
    lines += ["", "### Why files are refused", "", "| reason | files |", "| --- | --- |"]
    reasons = Counter(o.note for own in outcomes.values() for o in own if o.ending == "refused")
    lines += [f"| {reason} | {count} |" for reason, count in reasons.most_common()]
    lines += ["", "### Read but not equal to a second decode", ""]
    lines += ["| file | ending | note |", "| --- | --- | --- |"]
    lines += [
        f"| {o.file} | {o.ending} | {o.note} |"
        for own in outcomes.values()
        for o in own
        if o.ending in ("unchecked", "wrong", "crash")
        or (o.ending == "right" and o.note != "equal")
    ]
    total = sum(fuzzed.values())
    crashes = {ending: n for ending, n in fuzzed.items() if ending.startswith("crash")}
    lines += [
        "",
        "## Damaged files",
        "",
        f"Seeds of every format are mutated and read in child processes for {seconds:.0f} s: "
        f"{total:,} files, {fuzzed['read']:,} still read, {fuzzed['refused']:,} refused in one "
        f"sentence, {sum(crashes.values())} crashes (another exception, a signal, more than 10 s).",
    ]
    lines += [f"- {ending}: {count}" for ending, count in crashes.items()]
    told = (
        "atheris is not installed: not run."
        if guided is None
        else (
            f"Guided by coverage (atheris): {guided['runs']:,} files, {guided['crashes']} crashes."
        )
    )
    lines += [
        "",
        told,
        "",
        "Found by this and mended, each with a test: GDCM ends the process on damaged JPEG, and "
        "pylibjpeg-rle panics on damaged run lengths (compressed pixels are therefore decoded in a "
        "process of their own); tifffile follows a chain of pages that goes round for ever (the "
        "chain is walked first, and refused).",
        "",
        "## Many files",
        "",
        f"Grouping {grouping[0]:,} DICOM files into series, headers only: {grouping[1]:.1f} s "
        f"of processor time "
        f"({grouping[1] / grouping[0] * 1000:.2f} ms a file).",
        "",
    ]
    DOCUMENT.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["all", "fuzz"], default="all")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for files that crash a reader")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    fuzzed = fuzz(arguments.seconds, arguments.seed, arguments.keep)
    guided = run_atheris(int(arguments.seconds), arguments.seed)
    print(dict(fuzzed), "atheris:", guided)
    if arguments.what == "all":
        outcomes = read_corpus()
        files = 3000
        write_document(outcomes, fuzzed, guided, arguments.seconds, (files, time_grouping(files)))
        for package, own in outcomes.items():
            print(package, dict(Counter(outcome.ending for outcome in own)))
    crashes = sum(count for ending, count in fuzzed.items() if ending.startswith("crash"))
    sys.exit(1 if crashes or (guided or {}).get("crashes") else 0)


if __name__ == "__main__":
    main()
