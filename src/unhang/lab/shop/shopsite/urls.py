"""The project's addresses: it has one app."""

from django.urls import include, path

urlpatterns = [path("", include("shop.urls"))]
