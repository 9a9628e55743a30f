"""Snapshots as Prometheus metrics, and the agent's own metrics, over HTTP."""
