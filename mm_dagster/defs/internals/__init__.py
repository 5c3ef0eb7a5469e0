"""What of Dagster is private, a module an interface: each with a contract test that fails when Dagster changes."""
