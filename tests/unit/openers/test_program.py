"""What runs in a process, in a few words."""

from __future__ import annotations

import pytest

from unhang.openers.program import container_in, management_command, program_of


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/venv/bin/python /venv/bin/gunicorn shop.wsgi:application -w 4", "gunicorn shop.wsgi"),
        ("python3.11 -m gunicorn --workers 4 -b 0.0.0.0:80 shop.wsgi", "gunicorn shop.wsgi"),
        ("gunicorn: worker [shop]", "gunicorn"),
        ("/usr/bin/python3 -m uvicorn shop.asgi:application --port 80", "uvicorn shop.asgi"),
        ("python manage.py close_day --day 3", "python manage.py close_day"),
        ("python ./manage.py --settings shop.prod consume", "python manage.py consume"),
        ("/venv/bin/django-admin migrate", "django-admin migrate"),
        ("python -m django migrate", "django-admin migrate"),
        ("python /venv/bin/celery -A shop worker -c 8 -l info", "celery -A shop worker"),
        ("python -m celery --app=shop.celery beat", "celery -A shop.celery beat"),
        ("/venv/lib/celery/__main__.py -A shop worker", "celery -A shop worker"),
        ("python -W error /srv/feed.py fast", "python feed.py"),
        ("python", "python"),
        ("/usr/sbin/proxysql -f -c /etc/proxysql.cnf", "proxysql"),
        ("", ""),
    ],
)
def test_a_command_line_is_told_as_people_say_it(line: str, told: str) -> None:
    assert program_of(line.split()) == told


@pytest.mark.parametrize(
    "arguments",
    [
        ["mysql", "--password=hush", "-phush", "hush"],
        ["python", "-c", "connect('hush')"],
        ["python", "manage.py", "load", "mysql://app:hush@db/shop", "--token", "hush"],
        ["python", "manage.py", "mysql://app:hush@db/shop"],
        ["celery", "-b", "amqp://app:hush@mq//", "-A", "shop", "worker"],
        ["gunicorn", "--env", "TOKEN=hush", "shop.wsgi"],
        ["gunicorn", "-e", "hush.hush", "shop.wsgi"],
    ],
)
def test_a_value_is_never_told(arguments: list[str]) -> None:
    assert "hush" not in program_of(arguments)


def test_only_manage_runs_management_commands() -> None:
    assert management_command(["/srv/manage.py", "--settings", "x", "close_day"]) == "close_day"
    assert management_command(["/venv/bin/django-admin", "migrate"]) == "migrate"
    assert management_command(["/venv/bin/gunicorn", "shop.wsgi"]) == ""
    assert management_command([]) == ""


ID = "3f2a" * 16


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope", ID[:12]),
        (f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}", ID[:12]),
        (f"0::/machine.slice/libpod-{ID}.scope/container", ID[:12]),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID[:12]),
        (f"11:cpu:/kubepods/burstable/pod7/{ID}", ID[:12]),
        ("0::/lxc.payload.web1/init.scope", "web1"),
        ("0::/system.slice/shop.service", "shop.service"),
        ("0::/system.slice/system-shop.slice/shop@3.service", "shop@3.service"),
        ("0::/user.slice/user-0.slice/user@0.service/init.scope", ""),
        ("0::/user.slice/user-1000.slice/session-3.scope", ""),
        ("0::/", ""),
    ],
)
def test_a_container_or_a_unit_is_told_by_the_control_group(cgroup: str, container: str) -> None:
    assert container_in(cgroup) == container
