"""``python -m cgwatch`` is the command ``cgwatch``."""

from cgwatch.cli import main

if __name__ == "__main__":
    main()
