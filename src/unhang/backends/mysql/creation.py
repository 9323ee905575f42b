"""Test databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.db.backends.mysql.creation import DatabaseCreation as MysqlDatabaseCreation

if TYPE_CHECKING:
    from unhang.backends.mysql.wrapper import PooledWrapper


class DatabaseCreation(MysqlDatabaseCreation):
    """Closes the pool of a test database before the database goes."""

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> Any:
        cast("PooledWrapper", self.connection).forget_pool()
        return super()._destroy_test_db(test_database_name, verbosity)  # type: ignore[misc]  # the stubs lack it
