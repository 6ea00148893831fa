"""Arguments that several commands take, and reading them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from meninx.cohort import Cohort

Data = Annotated[
    Path,
    typer.Argument(
        help="A folder with one sub-folder a class, or a manifest (.csv).", metavar="DATA"
    ),
]
PatientPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression that finds the patient in a file name."),
]
Slices = Annotated[int, typer.Option(help="How many slices to take of each volume.", min=1)]
Choose = Annotated[
    Literal["even", "middle", "brain"],
    typer.Option(
        help="Which slices: evenly spaced in the central half, around the middle, or evenly "
        "spaced where the head is large."
    ),
]
AcrossAxis = Annotated[
    Literal["axial", "coronal", "sagittal"],
    typer.Option("--axis", help="Across which NIfTI volumes are sliced."),
]
AllowOutside = Annotated[
    bool,
    typer.Option("--allow-outside", help="Accept a manifest's images outside its folder."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, and record it.")
]
AllowCopies = Annotated[
    Path | None,
    typer.Option(
        "--allow-copies",
        help="A file of images that are no copies, two a line with a comma between them.",
        metavar="FILE",
    ),
]
WholeImage = Annotated[
    bool,
    typer.Option(
        "--whole-image", help="Keep all of each image; by default the head is cropped out."
    ),
]
Backbones = Annotated[
    str | None, typer.Option(help="Names, separated by commas; by default the packaged three.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
SizeBorder = Annotated[
    float, typer.Option(min=1, help="Images a class from which a cohort counts as large.")
]
SimilarityBorder = Annotated[
    float, typer.Option(min=0, help="Nats from ImageNet from which images count as different.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]


class Language(StrEnum):
    """A language that a report can be written in."""

    EN = "en"
    ID = "id"


def open_cohort(
    data: Path,
    patient_pattern: str | None,
    slices: int,
    choose: str,
    axis: str,
    allow_outside: bool,
    skip_bad: bool,
    whole_image: bool = False,
    allow_copies: Path | None = None,
) -> "Cohort":
    """Open the cohort that a command was given."""
    from meninx.cohort import Cohort, SampleRule
    from meninx.imaging import Axis, SliceChoice

    rule = SampleRule(slices, SliceChoice(choose), Axis(axis), whole_image)
    return Cohort.open(
        data,
        patient_pattern,
        rule,
        allow_outside=allow_outside,
        skip_bad=skip_bad,
        allow_copies=allow_copies,
    )


def split_names(names: str | None) -> tuple[str, ...]:
    """Split names at their commas."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
