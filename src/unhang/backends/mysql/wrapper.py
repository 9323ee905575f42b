"""Django's DatabaseWrapper on a virtual connection, as a mixin that the GIS backend can share."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property

from unhang.backends.mysql.adapter import MysqlDriver
from unhang.backends.mysql.laning import lanes_of
from unhang.backends.mysql.virtual import VirtualConnection
from unhang.lanes import lane
from unhang.lanes.headroom import Headroom
from unhang.mysql.drivers import CONNECT_TIMEOUT_SECONDS
from unhang.pool import OptionError, Pool, parse_options

if TYPE_CHECKING:
    from django.db.backends.mysql.base import DatabaseWrapper as _Base
else:
    _Base = object

_USABLE_SECONDS = 1.0
"""How long `is_usable` waits for a connection: it is a question, not a request."""

# One of each for the process: wrappers come and go with threads and requests.
_pools: dict[object, Pool] = {}
_pools_lock = threading.Lock()


class PooledWrapper(_Base):
    """Overrides what opens, sets up and closes connections; the rest is Django's own."""

    _connection_pools = _pools

    # ---- the pool ----

    @property
    def pool(self) -> Pool | None:
        """The pool of this alias's connection settings; made when first asked for.

        `None` for the connection without a database that creates and drops test databases.

        Raises:
            ImproperlyConfigured: The options make no sense, or CONN_MAX_AGE is not 0.
        """
        if self.alias == NO_DB_ALIAS:
            return None
        key = self._pool_key()
        pool = _pools.get(key)
        if pool is None or pool.is_closed:
            pool = self._make_pool(key)
        return pool

    def _pool_key(self) -> object:
        # From the settings, not from get_connection_params(): those may hold a password that is
        # made anew for each connection. Tests change the settings in place, so look each time.
        settings = self.settings_dict
        names = ("HOST", "PORT", "NAME", "USER", "PASSWORD", "OPTIONS")
        return (type(self), self.alias, *(_frozen(settings.get(name)) for name in names))

    def _make_pool(self, key: object) -> Pool:
        if self.settings_dict["CONN_MAX_AGE"] != 0:
            raise ImproperlyConfigured(
                "Pooling doesn't support persistent connections: remove CONN_MAX_AGE from "
                f"DATABASES[{self.alias!r}], or set it to 0. The pool keeps connections itself."
            )
        try:
            options = parse_options(self.settings_dict["OPTIONS"].get("pool", True))
        except OptionError as error:
            raise ImproperlyConfigured(
                f"DATABASES[{self.alias!r}]['OPTIONS']['pool']: {error}"
            ) from error
        # What a connection is opened with, as it is now: whoever changes the settings gets a pool
        # of his own.
        settings = {**self.settings_dict, "OPTIONS": dict(self.settings_dict["OPTIONS"])}
        kind, alias = type(self), self.alias
        with _pools_lock:
            if key not in _pools or _pools[key].is_closed:
                _give_row_back(_pools.get(key))
                driver = MysqlDriver(
                    lambda: kind(settings, alias),
                    max_statement_seconds=options.max_statement_seconds,
                )
                pool = _pools[key] = Pool(
                    driver,
                    options,
                    name=self.alias,
                    growth=functools.partial(Headroom, reserve=options.reserve),
                )
                if options.slow_lane is not None:
                    driver.lanes = lanes_of(pool, options.slow_lane, settings)
            return _pools[key]

    def close_pool(self) -> None:
        """Let the pool's connections go in half a minute, unless it is used until then.

        Celery calls this around every task. To close a pool at once: `connection.pool.close()`.
        """
        pool = _pools.get(self._pool_key())
        if pool is not None:
            pool.close_soon()

    def forget_pool(self) -> None:
        """Close the pool now; the next connection makes a new one."""
        with _pools_lock:
            pool = _pools.pop(self._pool_key(), None)
        if pool is not None:
            pool.close()
            _give_row_back(pool)

    def lane(self, name: str | None) -> lane:
        """A block, or a decorator, whose statements on this alias run in a named lane.

        with connection.lane("reports"):
            …

        With `None` they are never held back. `unhang.lanes.lane` names one for every alias.
        """
        return lane(name, self.alias)

    # ---- connecting ----

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        params.pop("pool", None)
        params.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
        return params

    def open_connection(self, params: dict[str, Any]) -> Any:
        """A connection of the driver, opened as Django's own backend opens it."""
        return super().get_new_connection(params)

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        pool = self.pool
        if pool is None:
            return self.open_connection(conn_params)
        driver = cast(MysqlDriver, pool.driver)
        if not pool.is_proven:
            # Nothing is known of the server, or the last that is known is bad: say so here, where
            # code that asks for a connection expects it.
            pool.give_back(pool.lend())
        this = weakref.ref(self)
        return VirtualConnection(pool, driver, lambda: (w := this()) is not None and w.is_shared)

    @property
    def is_shared(self) -> bool:
        """Whether several threads may use this wrapper."""
        return bool(self.allow_thread_sharing)

    @async_unsafe
    def connect(self) -> None:
        super().connect()
        if isinstance(self.connection, VirtualConnection):
            # Held without cost, so not closed for its age; see close_if_unusable_or_obsolete.
            self.close_at = None

    def init_connection_state(self) -> None:
        connection = self.connection
        if not isinstance(connection, VirtualConnection) or connection.is_set_up:
            super().init_connection_state()
            return
        # Called by connect(): nothing to set, since the pool sets each connection up once. Called
        # by hand later, it does what Django's own does.
        connection.is_set_up = True
        BaseDatabaseWrapper.init_connection_state(self)

    @cached_property
    def mysql_server_data(self) -> dict[str, Any]:
        pool = self.pool
        if pool is None:
            return super().mysql_server_data
        driver = cast(MysqlDriver, pool.driver)
        if driver.server_data is None:
            driver.server_data = super().mysql_server_data
        return driver.server_data

    # ---- using and closing ----

    @async_unsafe
    def create_cursor(self, name: str | None = None) -> Any:
        if isinstance(self.connection, VirtualConnection):
            return self.connection.cursor()
        return super().create_cursor(name)

    def is_usable(self) -> bool:
        if isinstance(self.connection, VirtualConnection):
            return self.connection.is_usable(_USABLE_SECONDS)
        return bool(super().is_usable())

    def close_if_unusable_or_obsolete(self) -> None:
        connection = self.connection
        if not isinstance(connection, VirtualConnection):
            super().close_if_unusable_or_obsolete()
        elif not connection.is_clean or connection.pool_is_closed:
            self.close()
        else:
            connection.end_request()
            # Each statement gets a connection that was looked at: an error is no reason to doubt.
            self.health_check_done = self.errors_occurred
            self.errors_occurred = False


def _give_row_back(pool: Pool | None) -> None:
    """A pool that is closed for good must not keep its place among the processes of the host."""
    if pool is not None and isinstance(pool.driver, MysqlDriver) and pool.driver.lanes is not None:
        pool.driver.lanes.close()


def _frozen(value: Any) -> Any:
    """A value that can be part of a dict's key."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), _frozen(part)) for name, part in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(_frozen(part) for part in value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
