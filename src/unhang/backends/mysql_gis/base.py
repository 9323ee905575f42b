"""`"ENGINE": "unhang.backends.mysql_gis"`."""

from unhang.backends.mysql import which_driver  # noqa: F401, I001 - before Django imports MySQLdb
from django.contrib.gis.db.backends.mysql.base import DatabaseWrapper as GisDatabaseWrapper

from unhang.backends.mysql.creation import DatabaseCreation
from unhang.backends.mysql.wrapper import PooledWrapper


class DatabaseWrapper(PooledWrapper, GisDatabaseWrapper):
    creation_class = DatabaseCreation
