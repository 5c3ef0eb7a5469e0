"""What the parts cost, measured on this machine: `make bench`."""
