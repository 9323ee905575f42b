"""Django's tests come in its source distribution only; the wheel has none."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def tests_of(version: str, cache: Path) -> Path:
    """The folder of Django's tests, fetched once with the user's own configuration of pip.

    Args:
        version: Of the Django that is installed.
        cache: A folder that git ignores.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch it; its output says why.
    """
    home = cache / f"django-{version}"
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-") as work:
            archive = _download(version, Path(work))
            unpacked = _unpack(archive, Path(work) / "unpacked")
            # Only a complete folder gets the final name.
            unpacked.rename(home)
    return home / "tests"


def _download(version: str, folder: Path) -> Path:
    # Only Django from source: what it takes to read its metadata may come as wheels.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "django", f"Django=={version}", "--dest", str(folder)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if Path(m.name).parts[1:2] == ("tests",)]
        tar.extractall(folder, members, filter="data")
    return next(folder.iterdir())
