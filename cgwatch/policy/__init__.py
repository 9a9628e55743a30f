"""Limits that rewrite themselves: rules from YAML, and what they want of each container."""
