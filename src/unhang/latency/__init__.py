"""Response times and error counts of an application, shared between its worker processes.

Every worker writes one small file of counters into the run directory; a reader adds them up. The
idea is that of Prometheus' multiprocess mode: a memory-mapped file outlives `kill -9`, and no two
processes ever write the same one, so nothing is locked between processes.

Standard library only: both the application (`Recorder`) and the command (`read_all`) use this.
"""

from unhang.latency.counters import KINDS, Counters, delta
from unhang.latency.reader import read_all
from unhang.latency.recorder import Recorder
from unhang.latency.rundir import default_run_dir, project_dir, run_dir_from

__all__ = [
    "KINDS",
    "Counters",
    "Recorder",
    "default_run_dir",
    "delta",
    "project_dir",
    "read_all",
    "run_dir_from",
]
