"""Could the decision be better: candidates, the gate that they must pass, and the search for thresholds."""
