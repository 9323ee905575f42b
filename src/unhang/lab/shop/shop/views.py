"""The shop's pages, as JSON. Some are quick, some are slow, and one leaks connections."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Sum
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from . import recommendations
from .models import Order, OrderLine, Product

_PAGE = 50


class SoldOut(Exception):
    """There is less in stock than was ordered."""


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """The process answers; the database is not asked."""
    return JsonResponse({"ok": True})


@require_GET
def product(_request: HttpRequest, product_id: int) -> JsonResponse:
    """One product, read by its key: the fast page."""
    found = get_object_or_404(Product, pk=product_id)
    return JsonResponse(
        {"id": found.pk, "name": found.name, "price": found.price, "stock": found.stock}
    )


@require_GET
def orders(request: HttpRequest) -> JsonResponse:
    """A customer's latest orders with their totals: a join over three tables."""
    customer = int(request.GET.get("customer", "1"))
    rows = (
        Order.objects.filter(customer_id=customer)
        .annotate(total=Sum(F("lines__quantity") * F("lines__unit_price")))
        .order_by("-placed_at")
        .values("id", "placed_at", "total", "customer__name")[:_PAGE]
    )
    return JsonResponse({"orders": list(rows)})


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Order something: `{"customer": 1, "lines": [{"product": 3, "quantity": 2}]}`."""
    wish = json.loads(request.body)
    quantities = {int(line["product"]): int(line["quantity"]) for line in wish["lines"]}
    try:
        order = _place(int(wish["customer"]), quantities)
    except SoldOut as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"id": order.pk}, status=201)


@transaction.atomic
def _place(customer: int, quantities: Mapping[int, int]) -> Order:
    # Locked in the order of their keys, so that two orders cannot deadlock.
    chosen = Product.objects.select_for_update().filter(pk__in=quantities).order_by("pk")
    order = Order.objects.create(customer_id=customer, placed_at=timezone.now())
    for item in chosen:
        quantity = quantities[item.pk]
        if item.stock < quantity:
            raise SoldOut(f"only {item.stock} of {item.name} left")
        Product.objects.filter(pk=item.pk).update(stock=F("stock") - quantity)
        OrderLine.objects.create(
            order=order, product=item, quantity=quantity, unit_price=item.price
        )
    return order


# LIMIT keeps MariaDB from merging the inner query into the outer one, which sleeps twice (10.11).
_TURNOVER = """
    SELECT product.category, COUNT(DISTINCT line.order_id), SUM(line.quantity * line.unit_price)
    FROM shop_orderline AS line
    JOIN shop_product AS product ON product.id = line.product_id
    JOIN (SELECT SLEEP(%s) AS seconds LIMIT 1) AS archive ON archive.seconds = 0
    GROUP BY product.category
    ORDER BY 3 DESC
"""


@require_GET
def report(request: HttpRequest) -> JsonResponse:
    """Turnover by category, slowly: the query runs for `seconds` and needs hardly any CPU."""
    seconds = float(request.GET.get("seconds", "2"))
    with connection.cursor() as cursor:
        cursor.execute(_TURNOVER, [seconds])
        rows = cursor.fetchall()
    return JsonResponse({"turnover": [_named(row) for row in rows]})


def _named(row: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(("category", "orders", "turnover"), row, strict=True))


@require_GET
def recommend(request: HttpRequest) -> JsonResponse:
    """What others bought too, for each product in `ids`, looked up in parallel threads."""
    ids = [int(part) for part in request.GET.get("ids", "1,2,3").split(",")]
    look_up = recommendations.POOLS[request.GET.get("pool", "shared")]
    return JsonResponse({"recommended": look_up(ids)})


@require_GET
def checkout(request: HttpRequest) -> JsonResponse:
    """Read, wait for the payment provider, read again; the connection idles meanwhile."""
    customer = int(request.GET.get("customer", "1"))
    last = Order.objects.filter(customer_id=customer).order_by("-placed_at").first()
    time.sleep(float(request.GET.get("seconds", "1")))
    total = OrderLine.objects.filter(order=last).aggregate(
        total=Sum(F("quantity") * F("unit_price"))
    )
    return JsonResponse({"order": last.pk if last else None, **total})
