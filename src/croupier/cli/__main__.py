"""`python -m croupier.cli`, for where the script is not on PATH."""

from . import main

raise SystemExit(main())
