"""Dagster only: one module per stage, in the order of the flow market, regime, grid, exit, alerts, audit.

Stages read from the lake, call their room, write to the lake and describe what they did. Nothing is decided here.
"""
