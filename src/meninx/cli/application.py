"""The application that commands enter themselves into, and how a call of it ends."""

import io
import logging
import os
import sys

import typer
from typer.exceptions import TyperException

from meninx.cli.interrupt import INTERRUPTED, say_stopped
from meninx.cli.output import BAD_INPUT, complain, say
from meninx.errors import MeninxError

app = typer.Typer(
    help="Honest transfer learning for small sets of brain MRI. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line.

    Errors of the user's world end in one line and exit code 2, Ctrl-C in one and 130.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text in any encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _let_waiting_threads_sleep()
    logging.basicConfig(level=os.environ.get("MENINX_LOG", "WARNING"), format="%(message)s")
    try:
        # What commands return is nothing; what they exit with comes back as a number.
        code = app(standalone_mode=False)
    except MeninxError as error:
        complain(error)
        code = BAD_INPUT
    except typer.Exit as done:
        code = done.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except TyperException as error:
        complain(error.format_message())
        code = BAD_INPUT
    if code == INTERRUPTED:
        say(say_stopped(sys.argv[1:]))
    if code:
        sys.exit(code)


def _let_waiting_threads_sleep() -> None:
    """Let threads that wait for others of their computation sleep; before torch is imported.

    By default they spin, and keep what they wait for from the processor where another program is
    busy, too: a dry run of the default study took 37 and 63 s then, and 21 and 23 s with threads
    that sleep. With nothing beside it was 20 to 22 s either way (two cores).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
