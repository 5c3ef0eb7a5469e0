"""Dagster only: one module per stage, in the order of the flow market, regime, grid, exit, alerts, audit.

Stages read from the lake, call their room, write to the lake and describe what they did. Nothing is decided here.
"""

import warnings

import dagster as dg

# Backfill policies have been "beta" for years, and every start of every process says so again.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
# As ever what a module holds is looked up; since 1.12 the function for it is called a preview.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
