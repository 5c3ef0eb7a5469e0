"""All grids at once: what one bad night costs them together."""
