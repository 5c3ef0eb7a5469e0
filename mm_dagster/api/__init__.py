"""HTTP: the API, the live page, and what Prometheus scrapes."""
