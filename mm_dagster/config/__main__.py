"""Writes the reference: `python -m mm_dagster.config`."""

from mm_dagster.config.reference import reference

print(reference(), end="")
