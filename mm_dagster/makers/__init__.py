"""Who would quote on a recorded book, and what it would have been worth: a study, whose honest answer may be no."""
