"""How many examples hypothesis tries of a test: all of them in the long run and wherever a file is run by itself, a
third in the short one.
"""

from __future__ import annotations

USUAL = 100
_share = 1


def choose(markers: str) -> None:
    """Notes which run this is, by what pytest selects tests with; before the tests are imported."""
    global _share
    _share = 3 if "not long" in markers else 1


def examples(many: int) -> int:
    """So many, or that share of them."""
    return -(-many // _share)
