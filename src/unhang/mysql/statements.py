"""What a statement may leave behind, told from its text before parameters are bound. No I/O.

This is an allow-list: what is not known to be harmless is `Kind.OTHER`. The text is read as the
lexers of MySQL 9.7 and MariaDB 11.8 read it, and given up where an `sql_mode`, a version or a
parameter could make it mean something else. What a view, a trigger or a column's default calls is
out of sight.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from typing import Final

from unhang.mysql.functions import HARMLESS, NOT_FUNCTIONS, OF_THE_SESSION


class Kind(enum.Enum):
    """What running a statement means for the session, and for who uses it next."""

    READ = enum.auto()
    """Changes nothing, leaves nothing behind, and may be run a second time."""
    READ_SESSION = enum.auto()
    """A read of what the statement before left in the same session."""
    WRITE = enum.auto()
    """Changes rows, and nothing in the session but what `READ_SESSION` reads."""
    SAVEPOINT = enum.auto()
    """Sets a savepoint, releases it, or goes back to it."""
    DDL = enum.auto()
    """Commits implicitly, and leaves nothing in the session."""
    OTHER = enum.auto()
    """Everything else: it may leave state in the session or end a transaction, or is unknown."""


_KEPT_TEXTS: Final = 2048
_LONGEST_KEPT: Final = 10_000
"""Characters. Longer texts are bulk inserts and IN lists, which seldom come twice."""


def kind_of(sql: str | bytes) -> Kind:
    """The kind of a statement. It never raises, whatever the text.

    Args:
        sql: With its placeholders: `%s`, `%(name)s`, and `%%` for a percent sign. Bytes are UTF-8.
    """
    if isinstance(sql, bytes):
        try:
            sql = sql.decode()
        except UnicodeDecodeError:
            return Kind.OTHER
    return _kept_kind(sql) if len(sql) <= _LONGEST_KEPT else _kind(sql)


# Spaces and comments, read in linear time.
_GAP: Final = r"(?:\s++|/\*[^*]*+(?:\*(?!/)[^*]*+)*+\*/)*+"
_LOOKS_BACK: Final = re.compile(
    rf"""(?:last_insert_id|found_rows|row_count){_GAP}\({_GAP}\)
    | @@{_GAP}(?:\w++{_GAP}\.{_GAP})?+
      (?:identity|last_insert_id|insert_id|warning_count|error_count|last_gtid)
    | \bdiagnostics\b""",
    re.IGNORECASE | re.VERBOSE,
)


def looks_back(sql: str | bytes) -> bool:
    """Whether a statement of any kind may read what the one before left in the same session.

    For the kinds that `READ_SESSION` does not cover: `SET @id = LAST_INSERT_ID()`.
    """
    text = sql.decode(errors="replace") if isinstance(sql, bytes) else sql
    return _LOOKS_BACK.search(text) is not None


def _kind(sql: str) -> Kind:
    text = _normal(sql)
    return Kind.OTHER if text is None else _kind_of_normal(text)


# Threads share it: a hit in functools' C code is one dict look-up, and no lock is taken in Python.
_kept_kind = functools.lru_cache(_KEPT_TEXTS)(_kind)


# -- from text to tokens --------------------------------------------------------------------------

# Only what every character set's lexer takes for a space: in Python, \s is more than that.
_S: Final = r"[ \t\n\r\v\f]"
# A percent sign that formatting leaves alone. Where it binds a parameter inside quotes or a
# comment, the parameter's own quotes would end them.
_PERCENT: Final = r"%%|%(?![#0\- +0-9.*hlL]*+[(srab])"
_HOLE: Final = rf"(?<![\w$])%(?:s|\([A-Za-z_]\w*+\)s)(?![\w$]|{_S}*+\()"
_MODULO: Final = r"%\ ++(?=[`(]|[0-9]++(?![\w.$]))"

# 1.e and .5e take the sign or the first character of a comment that follows them (MySQL 9.7).
_NO_EXPONENT: Final = r"(?!(?:(?<=[0-9]\.)|(?<=\.)[0-9]++)[eE](?![+\-]?[0-9]))"


def _quoted(quote: str) -> str:
    # Whether a backslash escapes depends on NO_BACKSLASH_ESCAPES and ANSI_QUOTES. The text ends at
    # the same place either way unless one that is not itself escaped stands before the quote.
    backslash = rf"\\\\|\\(?![\\{quote}])"
    return rf"{quote}(?:[^{quote}\\%]++|{quote}{quote}|{backslash}|{_PERCENT})*+{quote}"


_FILLER: Final = r"[ \t\n\r\v\f(),=<>!+|&^~.]"
_TOKEN: Final = rf"""
    (?: (?:[ (),]++%s(?=[,)]))++            # for speed alone: 1 MB of "(%s, %s), " in 7 ms, not 40
        | {_FILLER}++ | [0-9]++(?![\w$]) | {_HOLE} | %% | {_MODULO}
        | \*(?!/) | /(?!\*) | -(?!-) )++
    | {_NO_EXPONENT} \w[\w$]*+              # a word; numbers such as 1e5 and 0x1F as well
    | {_quoted("`")} | {_quoted("'")} | {_quoted('"')}
    | @@(?:(?i:GLOBAL|SESSION|LOCAL)\.)?[A-Za-z_]\w*+(?!{_S}*+[.`$(:])
    | (?: --(?={_S}|\Z) | \# ) (?: [^\n%]++ | {_PERCENT} )*+ (?=\n|\Z)
    | /\*\+ [^'"`\\*%]*+ \*/                # a hint; quotes in it might hide its end
    | /\*(?![+!]|[Mm]!) (?: [^*/%]++ | \*(?!/) | /(?!\*) | {_PERCENT} )*+ \*/
    | ;
"""
# Possessive repeats keep both linear. The first character that starts no token makes one token of
# all that follows, or each of the next ones could look through the same text once more.
_ONE_TOKEN: Final = re.compile(_TOKEN, re.VERBOSE)
_TOKENS: Final = re.compile(_TOKEN + r"| [\s\S]++", re.VERBOSE)
_STARTS_TOKEN: Final = re.compile(_FILLER)
_COMMENT: Final = ("--", "#", "/*")
_LONG_FILLER: Final = 32


def _normal(sql: str) -> str | None:
    """The statement with one space between tokens; `None` if it is not one readable statement.

    Words are in capitals, comments are gone, quoted text is its opening quote, and of a long
    stretch between words only both ends are left.
    """
    tokens = _TOKENS.findall(sql)
    if not tokens or "\0" in sql or not _ends_in_a_token(sql, tokens[-1]):
        return None
    normal_tokens = {token: _normal_token(token) for token in set(tokens)}
    normal = [*filter(None, map(normal_tokens.__getitem__, tokens))]
    while normal and normal[-1] == ";":
        normal.pop()
    return None if ";" in normal else " ".join(normal)


def _ends_in_a_token(sql: str, last: str) -> bool:
    # A filler is not matched again: it may be the megabyte of a bulk insert. The match is in place
    # because %s looks at what stands before it.
    return bool(_STARTS_TOKEN.match(last) or _ONE_TOKEN.fullmatch(sql, len(sql) - len(last)))


def _normal_token(token: str) -> str:
    first = token[0]
    if first in "`'\"":
        return first
    if first.isalnum() or first == "_" or first == "@":
        # Outside ASCII, capitals may be letters of another name: that of a long s is S.
        return token.upper() if token.isascii() else token
    if token.startswith(_COMMENT):
        return ""
    token = token.strip()
    if len(token) > _LONG_FILLER:
        token = token[:8] + "~" + token[-8:]
    return "".join(token.split())


# -- from tokens to a kind ------------------------------------------------------------------------

_NAME: Final = r"(?:[\w$]++|`)"
_TABLE: Final = rf"{_NAME}(?:\ \.\ {_NAME})?"
_QUERY: Final = r"(?:\(++\ )*+(?:SELECT|VALUES|TABLE)(?=\ )"

# The beginning that gives a statement its kind, up to where its first expression may stand.
_HEADS: Final = {
    kind: re.compile(pattern, re.VERBOSE)
    for kind, pattern in {
        Kind.READ: rf"""
            {_QUERY}
            | (?:DESCRIBE|DESC|EXPLAIN)\ {_TABLE}(?:\ (?:{_NAME}|'))?\Z
            | SHOW\ (?:(?:FULL|EXTENDED)\ )*+
            (?: TABLES | TABLE\ STATUS | OPEN\ TABLES | COLUMNS | FIELDS | INDEX | INDEXES | KEYS
            | CREATE\ (?:TABLE|VIEW|DATABASE|SCHEMA|TRIGGER|PROCEDURE|FUNCTION|EVENT)
            | DATABASES | SCHEMAS | TRIGGERS | EVENTS
            | (?:FUNCTION|PROCEDURE)\ STATUS | PROCESSLIST
            | (?:(?:GLOBAL|SESSION|LOCAL)\ )?(?:VARIABLES|STATUS)
            | GRANTS | PRIVILEGES | PLUGINS | CHARACTER\ SET | CHARSET | COLLATION
            | (?:STORAGE\ )?ENGINES | ENGINE\ \w++\ STATUS
            | BINARY\ LOGS | (?:MASTER|BINARY\ LOG|REPLICA|SLAVE)\ STATUS )(?!\S)""",
        Kind.READ_SESSION: r"""
            SHOW\ (?:COUNT\ \(\*\)\ )?(?:WARNINGS|ERRORS)(?!\S)""",
        Kind.WRITE: rf"""
            (?:UPDATE|DELETE)(?=\ )
            | (?:INSERT|REPLACE)(?:\ (?:LOW_PRIORITY|HIGH_PRIORITY|IGNORE))*+
              (?:\ INTO)?+\ (?!DELAYED\ ){_TABLE}""",
        Kind.SAVEPOINT: rf"""
            (?:SAVEPOINT|RELEASE\ SAVEPOINT|ROLLBACK(?:\ WORK)?\ TO(?:\ SAVEPOINT)?)\ {_NAME}\Z""",
        # Not DROP or ALTER DATABASE: of the current one, they change the session. MariaDB 11.8 and
        # MySQL 9.7 set character_set_database in the session that altered it, and in no other.
        Kind.DDL: rf"""
            CREATE\ (?: (?:DATABASE|SCHEMA)(?=\ )
                | (?:OR\ REPLACE\ )?(?:TABLE|VIEW)\ (?:IF\ NOT\ EXISTS\ )?+{_TABLE}
                | (?:OR\ REPLACE\ )?(?:(?:UNIQUE|FULLTEXT|SPATIAL)\ )?INDEX
                  \ (?:IF\ NOT\ EXISTS\ )?+{_NAME}(?:\ USING\ \w++)?\ ON\ {_TABLE} )
            | ALTER\ (?:(?:IGNORE\ )?TABLE|VIEW)\ {_TABLE}
            | DROP\ (?:TABLES?|INDEX|VIEW)\ {_TABLE}
            | RENAME\ TABLES?\ {_TABLE}
            | TRUNCATE(?:\ TABLE)?\ {_TABLE}""",
    }.items()
}
_EXPLAINED: Final = re.compile(
    r"""(?:DESCRIBE|DESC|EXPLAIN)(?:\ (?:EXTENDED|PARTITIONS|ANALYZE))?(?:\ FORMAT\ =\ [\w']++)?+
    \ (?=(?:\(++\ )*+(?:SELECT|VALUES|TABLE|WITH)\ )""",
    re.VERBOSE,
)
_WITH: Final = re.compile(r"(?:\(++ )*+WITH(?= )")
_QUERY_WORD: Final = re.compile(r"(?<!\S)(?:SELECT|VALUES|TABLE)(?!\S)")
# INSERT and REPLACE are functions, too; as verbs they never stand before a parenthesis.
_WRITE_WORD: Final = re.compile(
    r"(?<!\S)(?:(?<!FOR )UPDATE|DELETE|(?:INSERT|REPLACE)(?! \())(?!\S)"
)


def _kind_of_normal(text: str) -> Kind:
    explained = _EXPLAINED.match(text)
    if explained:
        kind = _kind_of_normal(text[explained.end() :])
        return kind if kind in (Kind.READ, Kind.READ_SESSION) else Kind.OTHER
    kind, rest = _by_head(text)
    effect = Kind.OTHER if _LEAVES_STATE.search(rest) else _effect(_without_lists(kind, rest))
    if effect is Kind.READ or kind is Kind.OTHER:
        return kind
    return effect if kind in (Kind.READ, Kind.READ_SESSION) else Kind.OTHER


def _by_head(text: str) -> tuple[Kind, str]:
    """The kind that the beginning promises, and the text after it."""
    with_clause = _WITH.match(text)
    if with_clause:
        if _WRITE_WORD.search(text):
            return Kind.WRITE, text
        return (Kind.READ if _QUERY_WORD.search(text) else Kind.OTHER), text
    for kind, head in _HEADS.items():
        found = head.match(text)
        if found:
            return kind, text[found.end() :]
    return Kind.OTHER, ""


# -- what expressions do --------------------------------------------------------------------------

_LEAVES_STATE: Final = re.compile(
    r"""(?<!\S)(?: INTO | OUTFILE | DUMPFILE | DELAYED | PROCEDURE | SQL_CALC_FOUND_ROWS
    | NEXTVAL | CURRVAL | LASTVAL | (?:NEXT|PREVIOUS)\ VALUE | START\ TRANSACTION )(?!\S)""",
    re.VERBOSE,
)
# Names before a list of columns, which are no calls: `c (a, b) AS (` and `REFERENCES t (id)`.
_CTE_COLUMNS: Final = re.compile(
    rf"((?:(?<!\S)(?:WITH|RECURSIVE)|,) {_NAME}) \( {_NAME}(?: , {_NAME})*+ \) (?=AS \()"
)
_DDL_COLUMNS: Final = re.compile(
    rf"(?<!\S)(INDEX|KEY|UNIQUE|REFERENCES)\ {_TABLE}(?:\ USING\ \w++)?\ (?=\()", re.VERBOSE
)
_CALL: Final = re.compile(r"""(\. )?(?<!\S)([\w$]++|[`'"]) \((?: ?(\)))?""")
_MAY_BE_CALLED: Final = HARMLESS | NOT_FUNCTIONS
_VARIABLE: Final = re.compile(r"@@(?:\w++\.)?+(\w++)")
_VARIABLES_OF_THE_SESSION: Final = frozenset(
    {
        "ERROR_COUNT",
        "IDENTITY",
        "INSERT_ID",
        "IN_TRANSACTION",
        "LAST_GTID",
        "LAST_INSERT_ID",
        "RAND_SEED1",
        "RAND_SEED2",
        "WARNING_COUNT",
    }
)
_IDENTIFIES_THE_SESSION: Final = "PSEUDO_THREAD_ID"


def _without_lists(kind: Kind, rest: str) -> str:
    rest = _CTE_COLUMNS.sub(r"\1 ", rest)
    return _DDL_COLUMNS.sub(r"\1 ", rest) if kind is Kind.DDL else rest


def _effect(text: str) -> Kind:
    """`READ` if nothing in the text has an effect, `READ_SESSION` if it looks back, or `OTHER`."""
    effects = {*_effects_of_calls(text), *_effects_of_variables(text)}
    if Kind.OTHER in effects:
        return Kind.OTHER
    return Kind.READ_SESSION if Kind.READ_SESSION in effects else Kind.READ


def _effects_of_calls(text: str) -> Iterator[Kind]:
    for dot, name, empty in _CALL.findall(text):
        # After a dot even SUM is a stored function.
        if dot or name not in _MAY_BE_CALLED:
            looks_back = empty and not dot and name in OF_THE_SESSION
            yield Kind.READ_SESSION if looks_back else Kind.OTHER


def _effects_of_variables(text: str) -> Iterator[Kind]:
    for name in _VARIABLE.findall(text):
        if name == _IDENTIFIES_THE_SESSION:
            yield Kind.OTHER
        elif name in _VARIABLES_OF_THE_SESSION:
            yield Kind.READ_SESSION
