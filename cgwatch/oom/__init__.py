"""OOM kills: every one of them once, whose it was and why."""
