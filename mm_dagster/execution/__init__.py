"""Leaving a grid: what it costs, over which time, and the plan."""
