"""The shop's project. PyMySQL stands in where mysqlclient is not installed, or not wanted."""

import importlib.util
import os

if os.environ.get("UNHANG_DRIVER") == "pymysql" or importlib.util.find_spec("MySQLdb") is None:
    import pymysql

    pymysql.install_as_MySQLdb()
