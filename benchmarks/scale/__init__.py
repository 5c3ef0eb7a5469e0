"""Ten times the markets, many machines, and faster on one: what each of it costs, and what was broken on purpose."""
