"""The lab: private servers, a demo site and faults, for tests, the demo and rehearsals.

    from unhang import lab

    with lab.server("mariadb", wait_timeout=3) as server, lab.site(server) as site:
        ...

Everything ends with its `with` block, or with this process, whatever ends that.
"""

from unhang.lab.binaries import available_engines
from unhang.lab.proxy import Proxy, proxy
from unhang.lab.server import Server, server
from unhang.lab.site import Site, site

__all__ = ["Proxy", "Server", "Site", "available_engines", "proxy", "server", "site"]
