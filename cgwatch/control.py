"""The agent's control socket: what the command line asks of a running agent, over HTTP on a unix socket."""

from __future__ import annotations


def serve(state_dir, pages):
    return None
