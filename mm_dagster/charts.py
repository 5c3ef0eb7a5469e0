"""Pictures from tables."""
