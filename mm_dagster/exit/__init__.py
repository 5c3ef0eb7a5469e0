"""When to get out: the triggers, and the ladder that folds them into one state."""
