"""What the market is doing: features over anchored windows, and the verdict drawn from them."""
