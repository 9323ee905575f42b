"""A third fast page and a second slow one, so that neither kind is a single statement."""

from django.db import connection
from django.http import HttpRequest, JsonResponse
from shop.models import Product

# LIMIT keeps MariaDB from merging the inner query into the outer one, which sleeps twice (10.11).
_BEST_CUSTOMERS = """
    SELECT customer.name, COUNT(*) AS orders
    FROM shop_customer AS customer
    JOIN shop_order AS placed ON placed.customer_id = customer.id
    JOIN (SELECT SLEEP(%s) AS seconds LIMIT 1) AS archive ON archive.seconds = 0
    GROUP BY customer.id
    ORDER BY orders DESC
    LIMIT 10
"""


def count(request: HttpRequest) -> JsonResponse:
    """How many products a category has: fast."""
    category = request.GET.get("category", "lamp")
    return JsonResponse({"count": Product.objects.filter(category=category).count()})


def customers(request: HttpRequest) -> JsonResponse:
    """The best customers, slowly: the query runs for `seconds` and needs hardly any CPU."""
    with connection.cursor() as cursor:
        cursor.execute(_BEST_CUSTOMERS, [float(request.GET.get("seconds", "8"))])
        rows = cursor.fetchall()
    return JsonResponse({"customers": [list(row) for row in rows]})
