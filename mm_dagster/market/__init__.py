"""Where candles come from: venues, and what makes their answers into closed, labelled bars."""
