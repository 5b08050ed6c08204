"""Standard input, output and error of a program, whatever it was started with."""

import os
import sys


def open_standard_files() -> None:
    """Where a shell closed one (`<&-`, `>&-`) there is nothing: the next file or socket would get its number, and the log."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
