"""End idle sleepers that nobody needs; never live work.

A session is ended only if it passes every rule (`rules`), in two looks some seconds apart
(`choose`), and is proven unchanged at the moment of the KILL (`ending`). Unknown is protected.
"""
