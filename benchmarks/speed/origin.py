"""Origins: on which machines, when and with which software the records were measured."""

from collections.abc import Sequence

from benchmarks.speed.records import Record


def name_machines(records: Sequence[Record]) -> list[Record]:
    """Give each record the letter of its machine under ``on``, A for the first one measured on.

    Raises
    ------
    SystemExit
        The software differs, so that the figures cannot be compared.
    """
    versions = {str(record["machine"]["versions"]) for record in records}
    if len(versions) > 1:
        raise SystemExit(
            f"the records come from several versions of software: {'; '.join(sorted(versions))}"
        )
    in_time = sorted(records, key=lambda record: record["date"])
    machines = dict.fromkeys(_identify(record) for record in in_time)
    letters = {machine: chr(ord("A") + number) for number, machine in enumerate(machines)}
    return [{**record, "on": letters[_identify(record)]} for record in records]


def _identify(record: Record) -> tuple[str, int, tuple[str, ...]]:
    """Tell machines apart by what they can do, too: the same model comes with `amx` and without."""
    machine = record["machine"]
    return machine["processor"], machine["cores"], tuple(machine["capabilities"])


def describe_machines(records: Sequence[Record]) -> str:
    """Say on what, when and with which software everything was measured.

    Parameters
    ----------
    records
        Of :func:`name_machines`.
    """
    lines = []
    for letter in sorted({record["on"] for record in records}):
        own = [record for record in records if record["on"] == letter]
        machine = own[0]["machine"]
        dates = sorted({record["date"][:10] for record in own})
        commits = sorted({record["commit"] for record in own})
        draws = sorted({record["draw"] for record in own if record["kind"] == "draw"})
        kinds = {record["kind"] for record in own}
        others = {"study": "studies alone", "scale": "scale", "limit": "limit"}
        loads = [record["load"] for record in own]
        what = [f"draw {number}" for number in draws]
        what += [name for kind, name in others.items() if kind in kinds]
        lines += [
            f"- **{letter}**: {machine['processor']}, {machine['cores']} cores, "
            f"{machine['gibibytes']} GiB of memory; {machine['system']}",
            f"  - measured here: {', '.join(what)}; {' to '.join(sorted({dates[0], dates[-1]}))}, "
            f"commit {', '.join(commits)}; load over the minute before a measurement "
            f"{min(loads):.1f} to {max(loads):.1f} (what ran before counts in it)",
            f"  - capabilities: {', '.join(machine['capabilities'])}",
        ]
    versions = records[0]["machine"]["versions"]
    software = ", ".join(f"{name} {number}" for name, number in versions.items())
    return "\n".join([*lines, f"- software: {software}"])
