"""The server's sessions, from the sources of each engine that a client cannot fake.

One module an engine, which gives the same record (`unhang.survey.session`). Each source is read
with one query, so 5,000 sessions take a fraction of a second, and what an account or an engine does
not show stays `None`: unknown, never no.
"""

from unhang.survey.sessions.read import SYSTEM_USERS, Listing, read_sessions
from unhang.survey.sessions.sources import read_attributes

__all__ = ["SYSTEM_USERS", "Listing", "read_attributes", "read_sessions"]
