"""Worker processes end with the process that started them, even if that is killed with SIGKILL.

Only the lab needs this: nothing that it starts may be left behind.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    Args:
        parent: The parent's process id. If it is not the parent any more, it died too early for
            the kernel to tell us, so this process ends at once.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
