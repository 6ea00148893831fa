"""Arguments that several commands take, and reading them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
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


@dataclass(frozen=True)
class CohortOptions:
    """How the images of a command's DATA are found and read."""

    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression that finds the patient in a file name."),
    ] = None
    slices: Annotated[
        int | None, typer.Option(help="How many slices of each volume; by default 1.", min=1)
    ] = None
    choose: Annotated[
        Literal["even", "middle", "brain"],
        typer.Option(
            help="Which slices: evenly spaced in the central half, around the middle, or evenly "
            "spaced where the head is large."
        ),
    ] = "even"
    axis: Annotated[
        Literal["axial", "coronal", "sagittal"],
        typer.Option(help="Across which NIfTI volumes are sliced."),
    ] = "axial"
    allow_outside: Annotated[
        bool,
        typer.Option("--allow-outside", help="Accept a manifest's images outside its folder."),
    ] = False
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out images that cannot be used, and record it."),
    ] = False
    whole_image: Annotated[
        bool,
        typer.Option(
            "--whole-image", help="Keep all of each image; by default the head is cropped out."
        ),
    ] = False
    allow_copies: Annotated[
        Path | None,
        typer.Option(
            help="A file of images that are no copies, two a line with a comma between them.",
            metavar="FILE",
        ),
    ] = None

    def open(self, data: Path, skip_bad: bool = False) -> "Cohort":
        """Open the cohort that a command was given."""
        from meninx.cohort import Cohort, SampleRule
        from meninx.imaging import Axis, SliceChoice

        choice = SliceChoice(self.choose)
        return Cohort.open(
            data,
            self.patient_pattern,
            SampleRule(self.slices or 1, choice, Axis(self.axis), self.whole_image),
            allow_outside=self.allow_outside,
            skip_bad=self.skip_bad or skip_bad,
            allow_copies=self.allow_copies,
        )


def takes_cohort_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :class:`CohortOptions` in place of its parameter `reading`."""
    options = inspect.signature(CohortOptions, eval_str=True).parameters

    @wraps(command)
    def with_options(**given: object) -> None:
        reading = CohortOptions(**{name: given.pop(name) for name in options})  # type: ignore[arg-type]
        command(**given, reading=reading)

    own = inspect.signature(command, eval_str=True)
    kept = [one for name, one in own.parameters.items() if name != "reading"]
    parameters = [*kept, *options.values()]
    # Typer reads both: the signature, and the annotations behind it.
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def split_names(names: str | None) -> tuple[str, ...]:
    """Split names at their commas."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
