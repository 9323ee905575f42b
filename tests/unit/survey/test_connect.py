"""Why a connection could not be opened, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unhang.errors import CannotConnect
from unhang.survey import connect
from unhang.survey.login import Login


def test_a_password_that_cannot_be_encrypted_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_given: Any) -> None:
        raise RuntimeError("'cryptography' package is required for caching_sha2_password")

    monkeypatch.setattr(connect, "_Lasting", refuse)
    with pytest.raises(CannotConnect, match=r"PyMySQL\[rsa\]"):
        connect.open_connection(Login(host="db", ssl=False))


@pytest.mark.parametrize("key", ["ca", "cert"])
def test_a_certificate_file_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    file = str(tmp_path / "none.pem")
    with pytest.raises(CannotConnect) as raised:
        connect.open_connection(Login(host="127.0.0.1", port=1, ssl={key: file}))
    assert f"certificate files: {file}. No such file or directory." in raised.value.message


def test_a_certificate_file_that_is_no_pem_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("junk")
    with pytest.raises(CannotConnect, match=r"certificate files: .*ca\.pem"):
        connect.open_connection(Login(host="127.0.0.1", port=1, ssl={"ca": str(file)}))
