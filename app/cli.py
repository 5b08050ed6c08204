"""`trine`'s entry: Ctrl-C is quiet from here on, while everything else is still being imported, too."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point."""
    try:
        from app.commands import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
