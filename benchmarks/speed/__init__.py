"""How fast and how good Meninx is against what people use today: docs/benchmarks.md.

Every competitor trains on draws of 53 images (``draws``), each in processes of its own
(``compete``), which are watched for time and memory (``processes``). What was measured is appended
to a file of records (``records``), from which ``table`` makes the page's one table.

    python -m benchmarks.speed run --draws 5              every competitor on every draw
    python -m benchmarks.speed study DATA --label before  one whole default study
    python -m benchmarks.speed table                      the table, into docs/benchmarks.md

The first is resumable: what has a record is not measured again; remove the record to do so.
``--trial`` runs it at a tiny size, to see that it works.
"""
