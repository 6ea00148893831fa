"""How fast and how good Meninx is against what people use today: docs/benchmarks.md.

Draws of 53 images come in (``draws``); every competitor, ours too, trains on each of them in a
process of its own (``competitors``, one file each); what was measured is appended to a file of
records (``records``), from which ``write_document`` makes the page. Nothing is typed by hand.

    python -m benchmarks.speed run --draws 5     every competitor on every draw
    python -m benchmarks.speed scale             time and memory at 53 to 3,000 images
    python -m benchmarks.speed limit             arithmetic against the best this machine can
    python -m benchmarks.speed score             every competitor on images of other patients
    python -m benchmarks.speed write             docs/benchmarks.md

All but the last are resumable: a record that is there is not measured again. ``--trial`` runs all
of it at a tiny size, to see that it works. A draw is measured on one machine at one commit, or it
is refused. To measure something again, remove its records; the rest of the page stays.
"""
