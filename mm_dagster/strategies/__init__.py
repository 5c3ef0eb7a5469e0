"""Strategies on candles: positions, what they would have earned, and a matrix of them. Pure; they switch nothing."""
