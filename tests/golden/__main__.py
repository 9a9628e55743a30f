"""``python -m tests.golden``, which is ``make golden``."""

from tests.golden.pages import write_all

write_all()
