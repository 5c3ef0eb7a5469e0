"""What a venue sent, kept byte for byte: frames, the log, and what is made of its finished quarter hours."""
