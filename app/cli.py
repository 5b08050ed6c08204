"""The entries of `trine` and `trine-model`: signals end them quietly from here on, while the rest is imported, too."""

import os
import sys
from importlib import import_module

from app.signals import leaving_at_once
from engine.ring.core_files import forbid_core_files

INTERRUPTED = 130


def main() -> None:
    """`trine`."""
    _run("app.commands")


def model() -> None:
    """`trine-model`."""
    _run("app.model_cli")


def _run(commands: str) -> None:
    leaving_at_once()
    _open_standard_files()
    forbid_core_files()
    try:
        program = import_module(commands).app
        from app.visible import forgive_letters

        forgive_letters()
        program()
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
