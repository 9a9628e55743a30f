"""Write the dashboards into the folder above this one."""

from __future__ import annotations

from pathlib import Path

from dashboards.generate import files

FOLDER = Path(__file__).resolve().parents[1]

for name, text in files().items():
    (FOLDER / name).write_text(text)
