"""unhang: no request hangs, and no query fails, because a MySQL connection was left asleep."""

__version__ = "0.1.0.dev0"
