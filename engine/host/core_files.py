"""No memory of a party on a disk: what a crash leaves behind would hold keys, masks and, at the desktop, the conversation."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # of <linux/prctl.h>


def forbid_core_files() -> None:
    """To be called first of all in a program: no core file is written of this process.

    The limit holds for those that it starts, too. Where a program of the system collects core files, Linux asks it whatever the
    limit is, but not about a process that is not dumpable; nor may other processes of the same user then read its memory. That
    is over with `exec`, so that each of our programs has to say it for itself.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
