"""Who opened which connection: the application writes it down, the command reads it.

A process that opens connections has a file in the run directory, a JSON line for each connection.
It holds a lock on the file while it lives, so that a reader knows whose connections are gone.

`signals` needs Django and runs in the application only; the rest is standard library.
"""

from unhang.openers.reader import NotReadable, Opening, read_all
from unhang.openers.recorder import note_pooled

__all__ = ["NotReadable", "Opening", "note_pooled", "read_all"]
