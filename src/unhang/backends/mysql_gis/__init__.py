"""`django.contrib.gis.db.backends.mysql` on the same pool."""
