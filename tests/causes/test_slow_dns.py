"""The server asks a name server that takes its time."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.causes import PASSWORD, rules_of
from support.causes import shop as a_shop
from unhang import lab
from unhang.lab import Server

SLOW_RESOLVER = """
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>
typedef int look_up(const struct sockaddr *, socklen_t, char *, socklen_t, char *, socklen_t, int);
int getnameinfo(const struct sockaddr *address, socklen_t length, char *host, socklen_t hostlen,
                char *service, socklen_t servicelen, int flags)
{
    const struct sockaddr_in *from = (const struct sockaddr_in *)address;
    if (address->sa_family != AF_INET || from->sin_addr.s_addr != inet_addr("127.0.0.2"))
        return ((look_up *)dlsym(RTLD_NEXT, "getnameinfo"))(address, length, host, hostlen, service,
                                                            servicelen, flags);
    sleep(3);
    return EAI_NONAME;
}
"""


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library in which every look-up of an address takes three seconds, and fails."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here, for a resolver that is slow")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_RESOLVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@contextlib.contextmanager
def server(resolver: Path, skip: bool) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(resolver))
        running = lab.server(
            "mariadb", wait_timeout=300, interactive_timeout=300, skip_name_resolve=skip
        )
        made = running.__enter__()
    try:
        yield made
    finally:
        running.__exit__(None, None, None)


@contextlib.contextmanager
def clients(server: Server, user: str, count: int) -> Iterator[None]:
    """Clients from an address that the server has not met, connecting."""

    def connect() -> None:
        # 127.0.0.1 is known to be localhost without asking.
        with socket.socket() as link:
            link.bind(("127.0.0.2", 0))
            link.connect((server.host, server.port))
            with contextlib.suppress(Exception):
                made = server.connect(user, PASSWORD, defer_connect=True)
                made.connect(link)
                made.close()

    threads = [threading.Thread(target=connect) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_slow_dns_makes_connects_hang(resolver: Path, tmp_path: Path) -> None:
    with server(resolver, skip=False) as slow, a_shop(slow, tmp_path) as shop:
        with clients(slow, shop.user, 3):
            findings = shop.until("UH506")
        assert rules_of(findings)[0] == "UH506"
        assert "DNS" in findings[0].sentence
        assert dict(findings[0].evidence)["skip_name_resolve"] == "OFF"


def test_without_name_look_ups_nobody_hangs(resolver: Path, tmp_path: Path) -> None:
    with (
        server(resolver, skip=True) as quick,
        a_shop(quick, tmp_path) as shop,
        clients(quick, shop.user, 3),
    ):
        assert not shop.diagnose()
