"""`"ENGINE": "unhang.backends.mysql"`."""

from unhang.backends.mysql import which_driver  # noqa: F401, I001 - before Django imports MySQLdb
from django.db.backends.mysql.base import DatabaseWrapper as MysqlDatabaseWrapper

from unhang.backends.mysql.creation import DatabaseCreation
from unhang.backends.mysql.wrapper import PooledWrapper


class DatabaseWrapper(PooledWrapper, MysqlDatabaseWrapper):
    creation_class = DatabaseCreation
