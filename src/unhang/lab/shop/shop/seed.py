"""The shop's first stock, customers and orders: the same rows each time."""

import datetime as dt
import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import models, transaction

from .models import Customer, Order, OrderLine, Product

CUSTOMERS = 300
PRODUCTS = 1_000
ORDERS = 2_000

_FIRST_NAMES = ["Ada", "Bora", "Chen", "Dana", "Emil", "Femi", "Gita", "Hana", "Ivo", "Jun"]
_LAST_NAMES = ["Abe", "Berg", "Costa", "Diaz", "Eke", "Faro", "Gill", "Holm", "Ito", "Jansen"]
_CITIES = ["Seoul", "Lisbon", "Oslo", "Lagos", "Kyoto", "Lima"]
_KINDS = ["kettle", "lamp", "desk", "chair", "radio", "clock", "vase", "rug", "mirror", "shelf"]
_LOOKS = ["blue", "oak", "steel", "round", "small", "tall", "white", "folding", "quiet", "heavy"]
_FIRST_DAY = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def fill() -> None:
    """Fill an empty shop; one that has products is left as it is."""
    if Product.objects.exists():
        return
    # A fixed seed, so that two runs can be compared row by row.
    chance = random.Random(7)
    with transaction.atomic():
        _insert(Customer, map(_customer, range(1, CUSTOMERS + 1)))
        _insert(Product, (_product(number, chance) for number in range(1, PRODUCTS + 1)))
        orders = [_order(number, chance) for number in range(1, ORDERS + 1)]
        _insert(Order, orders)
        _insert(OrderLine, (line for order in orders for line in _lines(order, chance)))


def _insert(model: type[models.Model], rows: Iterable[Any]) -> None:
    model._default_manager.bulk_create(rows, batch_size=1_000)


def _customer(number: int) -> Customer:
    first = _FIRST_NAMES[number % 10]
    last = _LAST_NAMES[number // 10 % 10]
    return Customer(
        pk=number,
        name=f"{first} {last}",
        email=f"{first}.{last}.{number}@example.org".lower(),
        city=_CITIES[number % len(_CITIES)],
    )


def _product(number: int, chance: random.Random) -> Product:
    kind = _KINDS[number % 10]
    return Product(
        pk=number,
        name=f"{_LOOKS[number // 10 % 10]} {kind} no. {number}",
        category=kind,
        price=Decimal(chance.randrange(500, 20_000)) / 100,
        stock=1_000_000,  # a load test must not sell out
    )


def _order(number: int, chance: random.Random) -> Order:
    minutes = chance.randrange(365 * 24 * 60)
    return Order(
        pk=number,
        customer_id=chance.randrange(1, CUSTOMERS + 1),
        placed_at=_FIRST_DAY + dt.timedelta(minutes=minutes),
    )


def _lines(order: Order, chance: random.Random) -> Iterable[OrderLine]:
    for product_id in chance.sample(range(1, PRODUCTS + 1), chance.randrange(1, 5)):
        yield OrderLine(
            order_id=order.pk,
            product_id=product_id,
            quantity=chance.randrange(1, 4),
            unit_price=Decimal(chance.randrange(500, 20_000)) / 100,
        )
