"""Telling the operator: what is due, the message, its delivery, and the ledger of both."""
