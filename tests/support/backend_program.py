"""What an application does with the backend, in a process of its own, since a process has one
driver. Settings come as JSON in the first argument; prints what it saw as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    import django
    from django.conf import settings

    settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True)
    django.setup()
    from django.db import OperationalError, connection, transaction

    saw: dict[str, Any] = {"driver": connection.Database.__name__}

    def ask(query: str, *args: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(query, args or None)
            return cursor.fetchall()[0][0] if cursor.description else cursor.rowcount

    def kill() -> None:
        # Over a connection outside the pool.
        with connection._nodb_cursor() as cursor:
            for physical in connection.pool.connections():
                cursor.execute(f"KILL {physical.raw.connection.thread_id()}")

    ask("DROP TABLE IF EXISTS note")
    ask("CREATE TABLE note (id INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(20)) ENGINE=InnoDB")
    saw["inserted"] = ask("INSERT INTO note (text) VALUES (%s), (%s)", "één", "100%")
    saw["read"] = ask("SELECT text FROM note WHERE id = %s", 1)
    with transaction.atomic():
        ask("INSERT INTO note (text) VALUES ('kept')")
        with_savepoint = transaction.savepoint()
        ask("INSERT INTO note (text) VALUES ('dropped')")
        transaction.savepoint_rollback(with_savepoint)
    try:
        with transaction.atomic():
            ask("DELETE FROM note")
            raise ZeroDivisionError
    except ZeroDivisionError:
        saw["after rollback"] = ask("SELECT COUNT(*) FROM note")
    kill()
    saw["read after kill"] = ask("SELECT COUNT(*) FROM note")
    kill()
    saw["write after kill"] = ask("INSERT INTO note (text) VALUES ('after')")
    kill()
    with transaction.atomic():
        ask("INSERT INTO note (text) VALUES ('in')")
    try:
        with transaction.atomic():
            ask("DELETE FROM note")
            kill()
            ask("DELETE FROM note")
    except OperationalError as error:
        saw["lost"] = error.args[0] in (2006, 2013, 2026)
    saw["rows"] = ask("SELECT COUNT(*) FROM note")
    ask("SET @state = 1")
    connection.close()
    saw["state"] = ask("SELECT @state")
    connection.close()
    connection.pool.keep()
    saw["pid answers"] = child_answers(ask)
    name = "tx_isolation" if connection.mysql_is_mariadb else "transaction_isolation"
    saw["isolation"] = str(ask(f"SELECT @@{name}"))
    saw["charset"] = ask("SELECT @@character_set_client")
    connection.close()
    print(json.dumps(saw, ensure_ascii=True))


def child_answers(ask: Any) -> bool:
    """A forked child and its parent ask at the same time."""
    child = os.fork()
    wrong = [n for n in range(100) if ask("SELECT %s", n + os.getpid()) != n + os.getpid()]
    if child == 0:
        os._exit(1 if wrong else 0)
    _, status = os.waitpid(child, 0)
    return not wrong and status == 0


if __name__ == "__main__":
    main()
