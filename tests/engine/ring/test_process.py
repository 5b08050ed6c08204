"""What a program that computes rounds sets for its process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from engine.ring.process import SWITCH_SECONDS, tune_process
tune_process()
if abs(sys.getswitchinterval() - SWITCH_SECONDS) > 1e-6: sys.exit(1)
import resource
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 17)
before = faults()
for _ in range(100):
    np.ones(1 << 17)  # 1 MiB each: 256 pages
print(faults() - before)
"""


def test_a_gates_arrays_are_not_fetched_from_the_kernel_each_time() -> None:
    """Given back and fetched anew, a hundred arrays of 1 MiB would cost 25,600 page faults."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    if sys.platform.startswith("linux"):
        assert int(done.stdout) < 2600
