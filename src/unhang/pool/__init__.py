"""A DB-API connection pool. Knows neither Django nor MySQL.

pool = Pool(driver, PoolOptions(max_size=10), name="shop")
connection = pool.lend()
try:
    connection.raw.cursor().execute(…)
finally:
    pool.give_back(connection)
"""

from unhang.pool.connection import PooledConnection
from unhang.pool.driver import Driver
from unhang.pool.errors import PoolClosed, PoolError, PoolOverloaded, PoolTimeout
from unhang.pool.options import OptionError, PoolOptions, SlowLane, parse_options
from unhang.pool.pool import Pool
from unhang.pool.stats import PoolStats

__all__ = [
    "Driver",
    "OptionError",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolOptions",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "PooledConnection",
    "SlowLane",
    "parse_options",
]
