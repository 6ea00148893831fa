"""The command line: ``python -m benchmarks.domains ACTION``."""

import argparse
import math
from pathlib import Path

from benchmarks.domains import __doc__ as about

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Read the command line; each action imports only what it needs."""
    parser = argparse.ArgumentParser("python -m benchmarks.domains", description=about)
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "work" / "domains")
    actions = parser.add_subparsers(dest="action", required=True)
    running = actions.add_parser("run", help="fit what is not there yet")
    running.add_argument("--budget", type=float, default=math.inf, help="minutes")
    running.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    actions.add_parser("collect", help="put all fits into one file")
    tabling = actions.add_parser("table", help="write the page")
    tabling.add_argument("--page", type=Path, default=ROOT / "docs" / "domains.md")
    arguments = parser.parse_args()
    if arguments.action == "run":
        from benchmarks.domains.run import run

        run(arguments.data, arguments.work, arguments.budget)
    elif arguments.action == "collect":
        from benchmarks.domains.records import collect

        print(collect(arguments.work), "fits")
    else:
        from benchmarks.domains.table import write_page

        write_page(arguments.page)


if __name__ == "__main__":
    main()
