"""The grid itself: its levels, and what it risks at each bar."""
