"""What `scripts/django_suite.py` is made of: Django's own test suite, run against a backend."""
