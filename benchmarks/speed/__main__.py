"""The command line: ``python -m benchmarks.speed ACTION``."""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("action", choices=["run", "score", "studies", "scale", "limit", "write"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cemri")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "speed.jsonl")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--trial", action="store_true", help="tiny: does everything run?")
    arguments = parser.parse_args()
    manifest = arguments.data / "manifest.csv"
    # Imported here: the competitors' libraries are not all needed for every action.
    if arguments.action == "write":
        from benchmarks.speed.write_document import write_document

        write_document(arguments.out, ROOT / "benchmarks", arguments.page)
    elif not manifest.exists():
        raise SystemExit(f"{manifest} is not there; the benchmark needs the cemri images")
    elif arguments.action == "run":
        from benchmarks.speed.run import run

        run(manifest, arguments.draws, arguments.out, arguments.trial)
    elif arguments.action == "studies":
        from benchmarks.speed.run import run_studies

        run_studies(manifest, arguments.draws, arguments.out, arguments.trial)
    elif arguments.action == "score":
        from benchmarks.speed.scoring import score_all

        score_all(manifest, arguments.out, arguments.trial)
    elif arguments.action == "scale":
        from benchmarks.speed.scaling import scale

        scale(manifest, arguments.out, arguments.trial)
    else:
        from benchmarks.speed.limit import measure_limit

        measure_limit(manifest, arguments.out, arguments.trial)


if __name__ == "__main__":
    main()
