"""Lets `python -m meninx` do what `meninx` does."""

from meninx.cli import main

main()
