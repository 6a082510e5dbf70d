"""`python -m advect` is the command line."""

from advect.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
