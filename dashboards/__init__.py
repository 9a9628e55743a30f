"""Grafana dashboards, generated: ``python -m dashboards.generate`` writes the JSON files beside this one."""
