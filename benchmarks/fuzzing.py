"""Hostile input for the readers: seeds of every format, mutated, read in a process of their own.

Reading must end in an image or in a MeninxError within seconds. Anything else is a crash:
another exception, a signal (a decoder's C code), too long, or too much memory.
"""

import argparse
import io
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LONGEST_SECONDS = 10  # of processor time, for one file
LONGEST_WAIT = 120  # of any time: the machine may be busy with other things
MOST_MEMORY = 6 << 30  # bytes of address space
LARGEST_SEED = 12_000  # bytes; of pydicom's files, the larger ones are left out
TOKENS = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xfe\xff\xdd\xe0"]
MANIFEST = b"image,label,patient,fold,slice\na.png,x,p1,1,\nb.png,x,p2,2,\nc.png,y,p3,1,0\n"


def make_seeds() -> dict[str, bytes]:
    """Make a small file of every format and kind that is read."""
    seeds = {**_make_pictures(), **_make_arrays(), **_make_dicom(), "manifest.csv": MANIFEST}
    return dict(sorted(seeds.items()))


def _make_pictures() -> dict[str, bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 20), dtype=np.uint8)
    colour = np.stack([pixels, pixels[::-1], pixels[:, ::-1]], axis=-1)
    grey = Image.fromarray(pixels)
    kinds = {
        "grey.png": (grey, {}),
        "bits.png": (grey.convert("1"), {}),
        "deep.png": (Image.fromarray(pixels.astype(np.uint16) * 257), {}),
        "palette.png": (Image.fromarray(colour).quantize(16), {}),
        "alpha.png": (Image.fromarray(colour).convert("RGBA"), {}),
        "grey.jpg": (grey, {}),
        "cmyk.jpg": (Image.fromarray(colour).convert("CMYK"), {}),
        "grey.tif": (grey, {}),
        "lzw.tif": (Image.fromarray(colour), {"compression": "tiff_lzw"}),
        "deflate.tif": (grey, {"compression": "tiff_adobe_deflate"}),
        "pages.tif": (grey, {"save_all": True, "append_images": [grey, grey]}),
    }
    seeds = {}
    for name, (image, options) in kinds.items():
        buffer = io.BytesIO()
        kind = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}[name[-3:]]
        image.save(buffer, kind, **options)
        seeds[name] = buffer.getvalue()
    return seeds


def _make_arrays() -> dict[str, bytes]:
    import gzip

    import h5py
    import nibabel as nib

    values = np.random.default_rng(1).integers(0, 999, (6, 7, 5)).astype(np.int16)
    volume = nib.Nifti1Image(values, np.diag([1, 1, 2, 1])).to_bytes()
    colour = np.zeros(values.shape, [(name, "u1") for name in "RGB"])
    colour["R"], colour["G"] = values % 256, values // 4
    array, matlab = io.BytesIO(), io.BytesIO()
    np.save(array, values)
    with h5py.File(matlab, "w") as file:
        group = file.create_group("cjdata")
        group["image"], group["label"] = values[0], np.array([[2.0]])
        group["PID"], group["tumorMask"] = np.array([[49], [50]], np.uint16), values[0] > 500
    return {
        "v.nii": volume,
        "v.nii.gz": gzip.compress(volume),
        "w.nii": nib.Nifti2Image(values, np.eye(4)).to_bytes(),
        "rgb.nii": nib.Nifti1Image(colour, np.eye(4)).to_bytes(),
        "v.mgz": gzip.compress(nib.MGHImage(values, np.eye(4)).to_bytes()),
        "v.npy": array.getvalue(),
        "s.mat": matlab.getvalue(),
    }


def _make_dicom() -> dict[str, bytes]:
    import pydicom.data
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

    folder = Path(pydicom.data.__file__).parent / "test_files"
    seeds = {
        f"pydicom-{path.name}": path.read_bytes()
        for path in sorted(folder.glob("*.dcm"))
        if path.stat().st_size <= LARGEST_SEED
    }
    for name, syntax in (("j2k", JPEG2000Lossless), ("jls", JPEGLSLossless)):
        dataset = dcmread(folder / "MR_small.dcm")
        dataset.compress(syntax)
        seeds[f"{name}.dcm"] = _save(dataset)
    dataset = dcmread(folder / "MR_small.dcm")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return {**seeds, "deflated.dcm": _save(dataset)}


def _save(dataset: object) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file: bits, bytes, lengths, cuts, repeats, or a piece of another file."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        # Headers decide; half of all damage is done in the first 600 bytes.
        reach = len(data) if chance.random() < 0.5 else min(len(data), 600)
        at = chance.randrange(max(1, reach))
        size = chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 2:
            token = chance.choice(TOKENS)
            data[at : at + len(token)] = token
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif kind == 5:
            start = chance.randrange(max(1, len(other)))
            data[at : at + size] = other[start : start + size]
        elif kind == 6 and chance.random() < 0.3:
            del data[at:]
        else:
            data[at : at + size] = chance.randbytes(size)
    return bytes(data)


def read_hostile(path: Path) -> str:
    """Read a file in every way that the cohort stage does; say how it ended."""
    from meninx.cohort import Cohort
    from meninx.errors import MeninxError
    from meninx.imaging import read_image
    from meninx.imaging.dicom_headers import is_dicom, read_headers

    try:
        if path.suffix == ".csv":
            Cohort.from_manifest(path)
            return "read"
        if is_dicom(path):
            read_headers(path)
        read_image(path)
        return "read"
    except MeninxError as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of several lines: {error}") from error
        return "refused"


def run_rounds(folder: Path, seed: int, seconds: float) -> Iterator[tuple[str, str]]:
    """Read mutated files until the time is over; give each one's seed file and its ending."""
    chance = random.Random(seed)
    seeds = make_seeds()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = chance.choice(list(seeds))
        path = folder / f"case-{name}"
        path.write_bytes(mutate(seeds[name], chance.choice(list(seeds.values())), chance))
        signal.alarm(LONGEST_WAIT)
        signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ending = read_hostile(path)
        except Exception as problem:
            place = traceback.extract_tb(problem.__traceback__)[-1]
            ending = f"crash: {type(problem).__name__} in {Path(place.filename).name}"
            (folder / f"found-{chance.randrange(10**9)}-{name}").write_bytes(path.read_bytes())
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        yield name, ending


def fuzz(seconds: float, seed: int, keep: Path | None = None) -> Counter[str]:
    """Fuzz in child processes; count how reading ended. Files that crashed are kept in `keep`."""
    endings: Counter[str] = Counter()
    end, turn = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        while (left := end - time.monotonic()) > 0.5:
            command = [sys.executable, __file__, str(folder), str(seed + turn), str(left)]
            child = subprocess.run(command, capture_output=True, text=True, check=False)
            endings.update(json.loads(line) for line in child.stdout.splitlines() if line)
            if child.returncode:  # a signal: what was being read is still there
                (last,) = sorted(folder.glob("case-*"), key=lambda it: it.stat().st_mtime)[-1:]
                last.rename(folder / f"found-{seed}-{turn}-{last.name}")
                endings[f"crash: exit {child.returncode} on {last.name}"] += 1
            turn += 1
    return endings


def run_atheris(seconds: int, seed: int) -> dict[str, int] | None:
    """Fuzz the readers guided by coverage; give executions and crashes, None without atheris."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        corpus.mkdir()
        for name, content in make_seeds().items():
            (corpus / name).write_bytes(content)
        code = (
            "import sys, atheris, pathlib, warnings\n"
            "warnings.simplefilter('ignore')\n"
            "with atheris.instrument_imports(include=['meninx.imaging', 'pydicom', 'tifffile']):\n"
            "    import meninx.imaging\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from fuzzing import read_hostile\n"
            f"path = pathlib.Path({temporary!r}) / 'case'\n"
            "def test(data):\n"
            "    for suffix in ('', '.nii', '.nii.gz'):\n"
            "        if suffix == '.nii.gz' and not data.startswith(b'\\x1f\\x8b'): continue\n"
            "        if suffix == '.nii' and data[344:347] != b'n+1': continue\n"
            "        target = path.with_name('case' + suffix)\n"
            "        target.write_bytes(data)\n"
            "        read_hostile(target)\n"
            f"atheris.Setup(['fuzz', {str(corpus)!r}, '-max_total_time={seconds}', "
            f"'-seed={seed + 1}', '-timeout={LONGEST_SECONDS}', '-rss_limit_mb=6000', "
            f"'-artifact_prefix={temporary}/', '-max_len=20000'], test)\n"
            "atheris.Fuzz()\n"
        )
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            errors="replace", timeout=seconds * 3 + 60,
        )  # fmt: skip
        done = [line for line in child.stderr.splitlines() if line.startswith("Done ")]
        runs = int(done[-1].split()[1]) if done else 0
        if child.returncode:
            print(child.stderr[-3000:], file=sys.stderr)
        return {"runs": runs, "crashes": int(child.returncode != 0)}


def main() -> None:
    """Be the child: read mutated files, printing each ending as a line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for _, ending in run_rounds(arguments.folder, arguments.seed, arguments.seconds):
        print(json.dumps(ending), flush=True)


if __name__ == "__main__":
    main()
