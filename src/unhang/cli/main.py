"""The command: one verb a module, and one place that turns errors into exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

import unhang
from unhang.errors import UnhangError
from unhang.i18n import _, use_language

INTERRUPTED: Final = 130

# Each verb's module holds a function of the same name.
VERBS: Final = (
    "diagnose",
    "explain",
    "plan",
    "apply",
    "verify",
    "rollback",
    "watch",
    "compare",
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


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; the console script's entry point.

    Args:
        arguments: Without the program's name; `None` takes those of this process.
    """
    chosen = list(sys.argv[1:] if arguments is None else arguments)
    # Messages are translated while modules load, so the language comes first.
    use_language(_language(chosen))
    _add_verbs(chosen)
    from unhang.cli.output import err, print_error

    try:
        app(args=chosen, prog_name="unhang", standalone_mode=True)
    except UnhangError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print(_("interrupted"))
        sys.exit(INTERRUPTED)


def _language(arguments: Sequence[str]) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == "--lang" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--lang="):
            return argument.removeprefix("--lang=")
    return None
