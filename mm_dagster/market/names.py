"""Names: of the exchanges that markets.yaml may name, and of coins that were renamed."""

RENAMED = {
    "AGIX": "FET",
    "EOS": "A",
    "FTM": "S",
    "GAL": "G",
    "KLAY": "KAIA",
    "LEND": "AAVE",
    "MATIC": "POL",
    "MKR": "SKY",
    "OCEAN": "FET",
    "RNDR": "RENDER",
    "WAX": "WAXP",
    "WAXP": "WAX",
    "XRB": "NANO",
}
"""What a coin is called now, or at another exchange: no exchange's API says it. Only used to suggest a market."""


def exchange_names() -> list[str]:
    """All that ccxt knows."""
    # Imported here because ccxt takes a second to load.
    import ccxt

    return list(ccxt.exchanges)


def wants_passphrase(exchange: str) -> bool:
    """Whether a key of an exchange that ccxt knows has a passphrase, too."""
    import ccxt

    return bool(getattr(ccxt, exchange)().requiredCredentials.get("password"))
