"""Runs on other hosts: what Dagster's own launchers leave to us. Loaded where dagster.yaml or a worker names it."""
