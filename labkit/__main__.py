"""``python -m labkit`` è il comando ``labkit``."""

from labkit.cli import main

raise SystemExit(main())
