"""The documentation says what the code does: names, options, codes, ids and links."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import get_args

import click
import pytest
import typer

from unhang import checks, errors, metrics
from unhang.change import journal, steps
from unhang.cli import main, rollback, verify
from unhang.monitor.metrics import METRICS, label
from unhang.pool.options import NAMES, PoolOptions, SlowLane
from unhang.reaper.ending import Result
from unhang.reaper.policy import UNKNOWNS
from unhang.reaper.rules import RULES
from unhang.rules import catalogue

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [
    *(ROOT / name for name in TOP),
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
TEXTS = [*PAGES, *sorted((ROOT / "deploy").rglob("*.sql"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_rules_is_what_the_script_prints() -> None:
    assert read("rules.md") == script("rules_reference").page(), (
        "run: .venv/bin/python scripts/rules_reference.py > docs/reference/rules.md"
    )


def test_every_rule_of_the_reaper_is_on_its_page() -> None:
    text = read("reaper.md")
    names = [rule.name for rule in RULES] + ["keep", "limit", *UNKNOWNS, *map(str, Result)]
    assert not [name for name in names if f"| `{name}` |" not in text]


def command_of(verb: str) -> click.Command:
    function = getattr(importlib.import_module(f"unhang.cli.{verb}"), verb)
    app = typer.Typer(add_completion=False)
    app.command(verb)(function)
    return typer.main.get_command(app)


def names_of(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from (*parameter.opts, *parameter.secondary_opts)


def section_of(verb: str) -> str:
    """The verb's own section and the options that several verbs share."""
    text = read("cli.md")
    shared, _, _ = text.partition("\n## diagnose\n")
    found = re.search(rf"\n## {verb}\n(.*?)(?=\n## |\Z)", text, re.DOTALL)
    assert found, f"docs/reference/cli.md has no section {verb}"
    return shared + found[1]


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_option_of_a_verb_is_documented(verb: str) -> None:
    section = section_of(verb)
    missing = [n for n in names_of(command_of(verb)) if not re.search(rf"`{n}[ `]", section)]
    assert not missing


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_says_what_it_returns(verb: str) -> None:
    _, _, table = read("exit-codes.md").partition("## What each verb returns")
    assert f"| `{verb}` |" in table


def test_options_before_the_verb_are_documented() -> None:
    text = read("cli.md")
    options = names_of(typer.main.get_command(main.app))
    assert not [name for name in options if not re.search(rf"`{name}[ `]", text)]


def test_no_option_is_documented_that_does_not_exist() -> None:
    known = set(names_of(typer.main.get_command(main.app))) | {"--help", "-h"}
    for verb in main.VERBS:
        known |= set(names_of(command_of(verb)))
    assert set(re.findall(r"`(--[a-z-]+)", read("cli.md"))) <= known


def codes() -> set[int]:
    found = {
        error.exit_code
        for _name, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.UnhangError)
    }
    return found | {main.INTERRUPTED, rollback.ROLLED_BACK, verify.NOT_VERIFIED}


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_exit_code_is_documented(code: int) -> None:
    assert re.search(rf"^\| {code} \| \S", read("exit-codes.md"), re.MULTILINE)


def test_every_system_check_is_documented() -> None:
    ids = set(re.findall(r"unhang\.[EWI]\d{3}", inspect.getsource(checks)))
    assert ids
    assert ids == set(re.findall(r"`(unhang\.[EWI]\d{3})`", read("checks.md")))


def test_every_metric_is_documented_with_its_unit() -> None:
    text = (DOCS / "explanation" / "what-compare-can-tell.md").read_text(encoding="utf-8")
    rows = [f"| {label(name)} | `{name}` | {m.unit} |" for name, m in METRICS.items()]
    assert not [row for row in rows if row not in text]


def test_every_pool_option_is_documented_with_its_default() -> None:
    text, defaults = read("pool-options.md"), PoolOptions()
    values = {name: getattr(defaults, name) for name in NAMES} | asdict(SlowLane())
    assert values["slow_lane"] == SlowLane(), "which is what True stands for"
    values["slow_lane"] = True
    for name, value in values.items():
        shown = f"`{json.dumps(value)}`" if isinstance(value, str | bool) else f"{value:g}"
        shown = shown.replace("true", "True")
        assert re.search(rf"^\| `{name}` \| {re.escape(shown)}( s)? \|", text, re.MULTILINE), name


def test_every_pool_metric_is_documented() -> None:
    named = set(
        re.findall(r"^\| `(unhang_(?:pool|lane)_\w+)` \|", read("metrics.md"), re.MULTILINE)
    )
    assert named == set(metrics.names())


def test_every_kind_of_step_and_journal_event_is_documented() -> None:
    text = read("files.md")
    names = [*steps.KINDS, *get_args(journal.Event)]
    assert not [name for name in names if f"`{name}`" not in text]


def test_the_grants_on_the_page_are_those_of_the_scripts() -> None:
    def grants(texts: Iterator[str]) -> set[str]:
        return {line for text in texts for line in text.splitlines() if line.startswith("GRANT ")}

    scripts = (path.read_text(encoding="utf-8") for path in (ROOT / "deploy").rglob("*.sql"))
    assert grants(iter([read("privileges.md")])) == grants(scripts)


@pytest.mark.parametrize("page", TEXTS, ids=relative)
def test_no_path_of_a_machine_is_mentioned(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:work|root|home|Users)/\w|unhang-lab-", text)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_relative_links_point_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [name for name in files if name and not (page.parent / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_rules_that_are_named_exist(page: Path) -> None:
    known = {rule.id for rule in catalogue.RULES}
    named = set(re.findall(r"\bUH\d{3}\b", page.read_text(encoding="utf-8")))
    assert named <= known | {"UH211"}  # the example in CONTRIBUTING.md


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "rules.md"], ids=relative)
def test_lines_are_short_enough_to_read(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 110]
