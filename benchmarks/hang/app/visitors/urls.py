"""The shop's addresses, and two more."""

from django.urls import include, path

from . import views

urlpatterns = [
    path("count/", views.count),
    path("customers/", views.customers),
    path("", include("shop.urls")),
]
