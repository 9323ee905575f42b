"""Who may run when it is crowded: lanes for slow statements, and the server's headroom.

from unhang.lanes import lane

@lane("reports")
def nightly(): …
"""

from unhang.lanes.errors import SlowLaneFull
from unhang.lanes.lanes import Lanes, Running
from unhang.lanes.naming import lane
from unhang.lanes.stats import LaneStats

__all__ = ["LaneStats", "Lanes", "Running", "SlowLaneFull", "lane"]
