"""Colours of words in a terminal, by the names that rich knows. Those of pictures are in pictures/colours.py."""

COLOURS = {
    "NORMAL": "green", "WARNING": "yellow", "LATEST_ACCEPTABLE_EXIT": "dark_orange", "MANDATORY_EXIT": "bold red",
    "RANGE_OK": "green", "RANGE_WEAK": "yellow", "TRANSITION": "dark_orange", "TREND": "red",
    "OK": "green", "ENTER": "green", "WATCH": "yellow",
    "HOLDS": "green", "DIFFERS": "bold red", "NOTHING COMPARED": "yellow",
}  # fmt: skip
