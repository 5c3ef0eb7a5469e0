"""Every 15 minutes: may this crypto grid bot go on, and if not, how long is left to get out."""
