"""What the shop knows."""

# Only its plugin lets django-stubs infer the types of fields, and nobody annotates them by hand.
# mypy: disable-error-code="var-annotated"

from django.db import models


class Customer(models.Model):
    """Somebody who orders."""

    name = models.CharField(max_length=80)
    email = models.EmailField(unique=True)
    city = models.CharField(max_length=40)


class Product(models.Model):
    """Something to order."""

    name = models.CharField(max_length=80)
    category = models.CharField(max_length=30, db_index=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """What one customer ordered at one time."""

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    placed_at = models.DateTimeField(db_index=True)


class OrderLine(models.Model):
    """So many of one product, at the price of that day."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.CASCADE, related_name="lines")
    quantity = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=8, decimal_places=2)
