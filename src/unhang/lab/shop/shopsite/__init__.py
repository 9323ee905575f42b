"""The shop's project. PyMySQL stands in where mysqlclient is not installed."""

try:
    import MySQLdb  # noqa: F401  # only to see whether it is there
except ImportError:
    import pymysql

    pymysql.install_as_MySQLdb()
