"""What an order book says: how deep it is, and what selling into it costs."""
