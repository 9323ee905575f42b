"""Database backends for Django."""
