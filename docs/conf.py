"""Sphinx: MyST pages in the Furo theme. `make docs` builds them without a warning, or fails."""

from __future__ import annotations

import unhang

project = "unhang"
author = "The unhang developers"
project_copyright = "the unhang developers"
version = release = unhang.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = f"unhang {release}"
# Numbers and option names are data: `--wait` must not become an en dash.
smartquotes = False
