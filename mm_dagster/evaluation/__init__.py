"""Does the advice help? Signals and grids on stored candles, against controls that could prove them useless."""
