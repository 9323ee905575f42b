#!/usr/bin/env bash
# lint.sh VENV: format, lint, types, and the house's import rules.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1/bin
"$bin/ruff" format --check --quiet . || { "$bin/ruff" format --diff . ; exit 1; }
"$bin/ruff" check --quiet .
"$bin/mypy" --strict src
"$bin/lint-imports" --no-cache | tail -n 8
