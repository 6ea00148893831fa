"""The application that commands enter themselves into, and how a call of it ends."""

import io
import logging
import os
import sys

import typer
from typer.exceptions import TyperException

from meninx.cli.output import make_printable, say
from meninx.errors import MeninxError

app = typer.Typer(
    help="Honest transfer learning for small sets of brain MRI. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line; errors of the user's world end in one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text in any encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _let_waiting_threads_sleep()
    logging.basicConfig(level=os.environ.get("MENINX_LOG", "WARNING"), format="%(message)s")
    try:
        app(standalone_mode=False)
    except MeninxError as error:
        _fail(" ".join(str(error).split()))
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except TyperException as error:
        _fail(error.format_message())


def _let_waiting_threads_sleep() -> None:
    """Let threads that wait for others of their computation sleep; before torch is imported.

    By default they spin, and keep what they wait for from the processor where another program is
    busy, too: a dry run of the default study took 37 and 63 s then, and 21 and 23 s with threads
    that sleep. With nothing beside it was 20 to 22 s either way (two cores).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _fail(sentence: str) -> None:
    say(f"meninx: {make_printable(sentence)}")
    sys.exit(2)
