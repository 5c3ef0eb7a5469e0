"""The names that an exchange may have in markets.yaml."""


def exchange_names() -> list[str]:
    """All that ccxt knows."""
    # Imported here because ccxt takes a second to load.
    import ccxt

    return list(ccxt.exchanges)
