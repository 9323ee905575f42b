"""`python -m unhang`."""

from unhang.cli.main import run

run()
