"""The command line: it reads arguments, calls a stage and shows what it gives.

No logic lives here. Stages are imported inside the commands, because torch takes seconds to
import and `meninx --help` must not wait for it.
"""

# Each command enters itself when its module is imported; this is their order in the help.
# isort: off
from meninx.cli import studies, cohorts, matrices, bundles  # noqa: F401
from meninx.cli.application import main

__all__ = ["main"]
