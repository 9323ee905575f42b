"""A DB-API connection pool. Knows neither Django nor MySQL."""
