"""Metrics of one command for Prometheus: what is counted, and where it is written to."""
