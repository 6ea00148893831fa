"""The command line: ``python -m benchmarks.speed ACTION``."""

import argparse
from pathlib import Path

from benchmarks.speed import __doc__ as about

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "cemri"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed",
        description=about,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "speed.jsonl")
    actions = parser.add_subparsers(dest="action", required=True)
    running = actions.add_parser("run", help="measure every competitor on every draw")
    running.add_argument("--draws", type=int, default=5)
    running.add_argument("--only", nargs="+", help="these competitors; by default all")
    running.add_argument("--data", type=Path, default=DATA)
    running.add_argument("--trial", action="store_true", help="tiny: does everything run?")
    studying = actions.add_parser("study", help="measure one study of the meninx on PYTHONPATH")
    studying.add_argument("data", type=Path)
    studying.add_argument("--label", required=True, help="what it is called in the table")
    studying.add_argument("--seed", type=int, default=0)
    studying.add_argument("--trial", action="store_true", help="tiny: does everything run?")
    tabling = actions.add_parser("table", help="write the table of all records")
    tabling.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    tabling.add_argument("--print", action="store_true", help="print it and write nothing")
    act(parser.parse_args())


def act(arguments: argparse.Namespace) -> None:
    """Do what the command line says; each action imports only what it needs."""
    if arguments.action == "table":
        from benchmarks.speed.table import lay_out_table, put_into_page

        table = lay_out_table(arguments.out)
        if arguments.print:
            print(table)
        else:
            put_into_page(table, arguments.page)
    elif arguments.action == "study":
        from benchmarks.speed.study import record_study

        record_study(
            arguments.data, arguments.label, arguments.seed, arguments.out, arguments.trial
        )
    else:
        from benchmarks.speed.run import run

        manifest = arguments.data / "manifest.csv"
        if not manifest.exists():
            raise SystemExit(f"{manifest} is not there; the benchmark needs the cemri images")
        run(manifest, arguments.draws, arguments.only, arguments.out, arguments.trial)


if __name__ == "__main__":
    main()
