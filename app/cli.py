"""`trine`'s entry: Ctrl-C is quiet from here on, while everything else is still being imported, too."""

import os
import sys

from engine.ring.core_files import forbid_core_files

INTERRUPTED = 130


def main() -> None:
    """Entry point."""
    _open_standard_files()
    forbid_core_files()
    try:
        from app.commands import app
        from app.visible import forgive_letters

        forgive_letters()
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _open_standard_files() -> None:
    """Where a shell closed one (`<&-`, `>&-`) there is nothing: the next file that is opened would take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


if __name__ == "__main__":
    main()
