"""The entries of `trine` and `trine-model`: signals end them quietly from here on, while the rest is imported, too."""

import sys
from importlib import import_module

from app.cli.signals import leaving_at_once
from engine.host.core_files import forbid_core_files
from engine.host.standard_files import open_standard_files

INTERRUPTED = 130


def main() -> None:
    """`trine`."""
    _run("app.cli.commands")


def model() -> None:
    """`trine-model`."""
    _run("app.cli.model")


def _run(commands: str) -> None:
    leaving_at_once()
    open_standard_files()
    forbid_core_files()
    try:
        program = import_module(commands).app
        from app.cli.terminal_text import forgive_letters

        forgive_letters()
        program()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
