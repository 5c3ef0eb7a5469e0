"""HTTP: the live page for people, the API for programs, the metrics."""
