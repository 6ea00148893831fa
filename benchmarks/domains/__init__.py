"""Which depth is right, on many domains: every policy on the same draws of many sources.

``run`` fits what is missing and stores each fit's test probabilities, so that any average of
policies is scored afterwards without fitting again; it goes on where it stopped, the most telling
fits first. ``collect`` puts all of them into one small file, and ``table`` writes docs/domains.md
from it.
"""
