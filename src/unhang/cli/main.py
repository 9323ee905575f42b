"""The command: one verb a module, and one place that turns errors into exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import unhang
from unhang.errors import CannotConnect, UnhangError, UsageProblem
from unhang.i18n import _, use_language

INTERRUPTED: Final = 130

# Each verb's module holds a function of the same name.
VERBS: Final = (
    "diagnose",
    "explain",
    "plan",
    "apply",
    "status",
    "verify",
    "rollback",
    "watch",
    "compare",
    "lanes",
    "reap",
    "demo",
)

app = typer.Typer(
    name="unhang",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unhang {unhang.__version__}")
        raise typer.Exit


@app.callback()
def main(
    lang: Annotated[
        str | None, typer.Option("--lang", metavar="LOCALE", help="Language of the output.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    """No request hangs, and no query fails, because a MySQL connection was left asleep."""


def _add_verbs(arguments: Sequence[str]) -> None:
    """The verb that was asked for; all of them for the help, which costs half a second more."""
    asked = [argument for argument in arguments if argument in VERBS][:1]
    for verb in asked or VERBS:
        function: Callable[..., Any] = getattr(importlib.import_module(f"unhang.cli.{verb}"), verb)
        app.command(verb)(function)


def run(arguments: Sequence[str] | None = None, *, directory: Path | None = None) -> None:
    """Run the command and exit with its code; the console script's entry point.

    Args:
        arguments: Without the program's name; `None` takes those of this process.
        directory: The project's folder where no option names another one, instead of the current.
    """
    chosen = list(sys.argv[1:] if arguments is None else arguments)
    # Messages are translated while modules load, so the language comes first.
    use_language(_language(chosen))
    _add_verbs(chosen)
    from unhang.cli.output import err, print_error

    if directory:
        from unhang.cli import options

        options.use_directory(directory)
    try:
        app(args=chosen, prog_name="unhang", standalone_mode=True)
    except KeyboardInterrupt:
        err.print(_("interrupted"))
        sys.exit(INTERRUPTED)
    except Exception as error:
        known = _in_one_sentence(error)
        if known is None:
            raise
        print_error(known)
        sys.exit(known.exit_code)


def _in_one_sentence(error: Exception) -> UnhangError | None:
    """The last net: what the server or the system said and no verb expected."""
    from pymysql.err import MySQLError  # only now: most calls end well, and some need no driver

    if isinstance(error, UnhangError):
        return error
    if isinstance(error, MySQLError):
        code, text = error.args if len(error.args) == 2 else ("?", error)
        return CannotConnect(
            _("The server answers with error {code}: {text}").format(code=code, text=text),
            cure=_("Look whether it still runs, and whether the account may do this."),
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        name = error.filename
        return UsageProblem(f"{name}: {reason}." if name is not None else f"{reason}.")
    return None


def _language(arguments: Sequence[str]) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == "--lang" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--lang="):
            return argument.removeprefix("--lang=")
    return None
