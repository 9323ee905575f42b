"""Is it better now? Samples of the server and the application, kept, and compared."""
