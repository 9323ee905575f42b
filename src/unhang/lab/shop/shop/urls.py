"""The shop's addresses."""

from django.urls import path

from . import views

urlpatterns = [
    path("product/<int:product_id>/", views.product),
    path("orders/", views.orders),
    path("order/", views.place_order),
    path("report/", views.report),
    path("recommend/", views.recommend),
    path("checkout/", views.checkout),
    path("health/", views.health),
]
