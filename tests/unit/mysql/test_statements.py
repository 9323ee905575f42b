"""What a statement may leave behind: only what is surely harmless gets more than OTHER."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from unhang.mysql import functions, statements
from unhang.mysql.statements import Kind, kind_of, looks_back

BOOK = "`book`.`id`, `book`.`title`, `book`.`data`"

# From Django's ORM, schema editor and introspection, on MariaDB 11.8 and MySQL 9.7.
DJANGO_READS = [
    "SHOW SESSION STATUS LIKE 'Handler%%'",
    "SHOW VARIABLES LIKE 'last_insert_id'",
    "SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, "
    "@@lower_case_table_names, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
    f"SELECT {BOOK} FROM `book` WHERE `book`.`title` = %s LIMIT 21 FOR UPDATE",
    f"SELECT {BOOK} FROM `book` FOR UPDATE OF `book` SKIP LOCKED",
    f"SELECT {BOOK} FROM `book` WHERE `book`.`id` IN (%s, %s, %s)",
    f"SELECT {BOOK}, COUNT(DISTINCT U0.`id`) AS `n`, AVG(U0.`price`) AS `s` FROM `book` "
    "LEFT OUTER JOIN `page` U0 ON (`book`.`id` = U0.`book_id`) "
    "GROUP BY `book`.`id` HAVING COUNT(U0.`id`) > %s ORDER BY NULL",
    "SELECT STDDEV_POP(`a`) AS `sd`, VAR_POP(`a`) AS `va`, COALESCE(SUM(`a`), %s) FROM `book`",
    "SELECT COUNT(CASE WHEN `book`.`a` > %s THEN `book`.`id` ELSE NULL END) AS `x` FROM `book`",
    "SELECT COUNT(*) FROM (SELECT DISTINCT `book`.`a` AS `col1` FROM `book`) subquery",
    f"SELECT {BOOK}, ROW_NUMBER() OVER (PARTITION BY `a` ORDER BY `t` DESC) AS `r` FROM `book`",
    "SELECT * FROM (SELECT LAG(`a`, %s) OVER (ORDER BY `b` ROWS BETWEEN 2 PRECEDING AND CURRENT "
    "ROW) AS `qual0` FROM `book`) `qualify` WHERE `qual0` = %s",
    f"SELECT {BOOK} FROM `book` WHERE EXISTS(SELECT %s AS `a` FROM `page` U0 "
    "WHERE U0.`book_id` = (`book`.`id`) LIMIT 1)",
    f"SELECT {BOOK}, (SELECT U0.`n` AS `n` FROM `page` U0 LIMIT 1) AS `t` FROM `book`",
    f"SELECT {BOOK} FROM `book` WHERE JSON_EXTRACT(`data`, %s) = JSON_EXTRACT(%s, '$')",
    f"SELECT {BOOK} FROM `book` WHERE JSON_CONTAINS_PATH(`data`, 'one', %s)",
    "SELECT JSON_UNQUOTE(JSON_EXTRACT(`data`, %s)) AS `k`, `data`->>'$.a', JSON_TYPE(`a`) FROM b",
    f"SELECT {BOOK} FROM `book` WHERE `book`.`title` LIKE BINARY CONCAT('%%', REPLACE("
    r"REPLACE(REPLACE((`book`.`title`), '\\', '\\\\'), '%%', '\%%'), '_', '\_'), '%%')",
    f"SELECT {BOOK} FROM `book` WHERE REGEXP_LIKE(`book`.`title`, %s, 'c')",
    f"SELECT {BOOK} FROM `book` WHERE `book`.`title` REGEXP BINARY %s",
    "SELECT CAST(DATE_FORMAT(CONVERT_TZ(`born`, %s, %s), %s) AS DATETIME) AS `y`, "
    "DATE(CONVERT_TZ(`born`, %s, %s)) AS `d`, WEEK(`born`, 3) AS `e`, EXTRACT(YEAR FROM `born`), "
    "DAYOFWEEK(`born`), TIME(`born`), MAKEDATE(YEAR(`born`), 1) + INTERVAL QUARTER(`born`) QUARTER "
    "- INTERVAL 1 QUARTER FROM `book`",
    "SELECT CURRENT_TIMESTAMP(6) AS `n`, MD5(`t`), SHA1(`t`), SHA2(`t`, 256), CONCAT_WS('', `t`, "
    "CONCAT_WS('', %s, `t`)) AS `c`, UUID() FROM `book`",
    "SELECT JSON_OBJECT(%s, `t`, %s, LOWER(`t`)), GREATEST(`a`, %s), NULLIF(`a`, %s), CAST(`a` AS "
    "char), LPAD(`t`, %s, %s), INSTR(`t`, %s), CHAR(`a` USING utf16), `t` COLLATE `utf8mb4_bin`, "
    "CAST(%s AS decimal(10, 2)), CAST(%s AS JSON) FROM `book`",
    "SELECT TIMESTAMPDIFF(MICROSECOND, CURRENT_TIMESTAMP(6), `b`), (`b` + INTERVAL %s SECOND), "
    "(`a` %% %s), (CONVERT(`a`&%s, SIGNED)), (CONVERT(`a`<<%s, SIGNED)), POW(`a`, 2) FROM `book`",
    "(SELECT `a` AS `col1` FROM `b` WHERE `a` = %s) UNION (SELECT `a` AS `col1` FROM `b`) "
    "ORDER BY (1) ASC",
    "(SELECT `a` FROM `b`) UNION ALL (SELECT `a` FROM `b`) LIMIT 3",
    f"EXPLAIN FORMAT=TREE SELECT {BOOK} FROM `book`",
    f"EXPLAIN ANALYZE SELECT {BOOK} FROM `book`",
    "SELECT * FROM `book` LIMIT 1",
    "SHOW INDEX FROM `book`",
    "\n            SELECT\n                table_name,\n                table_type\n            "
    "FROM information_schema.tables\n            WHERE table_schema = DATABASE()\n        ",
    "SELECT ST_AsBinary(`p`) AS `p`, ST_Distance_Sphere(`p`, ST_GeomFromText(%s, 0)) FROM `place` "
    "WHERE MBRContains(`p`, ST_GeomFromText(%s, 4326, 'axis-order=long-lat'))",
]
DJANGO_WRITES = [
    "INSERT INTO `book` (`title`, `data`) VALUES (%s, %s)",
    "INSERT INTO `book` (`title`) VALUES (%s), (%s), (DEFAULT) RETURNING `book`.`id`",
    "INSERT IGNORE INTO `book` (`title`) VALUES (%s)",
    "INSERT INTO `b` (`t`, `a`) VALUES (%s, %s), (%s, %s) AS new ON DUPLICATE KEY UPDATE "
    "`a` = new.`a`",
    "INSERT INTO `b` (`t`, `a`) VALUES (%s, (UPPER(%s))) ON DUPLICATE KEY UPDATE `a` = VALUE(`a`)",
    "UPDATE `b` SET `a` = CASE WHEN (`b`.`id` = %s) THEN %s ELSE NULL END WHERE `b`.`id` IN (%s)",
    "UPDATE `b` INNER JOIN `c` ON (`b`.`x` = `c`.`id`) SET `b`.`a` = (`b`.`a` + %s)",
    "UPDATE `b` SET `a` = (SELECT U0.`age` FROM `c` U0 LIMIT 1) WHERE `b`.`x` IN (SELECT 1)",
    "DELETE FROM `book` WHERE `book`.`id` IN (%s)",
    "DELETE `b` FROM `b` INNER JOIN `c` ON (`b`.`x` = `c`.`id`) WHERE `c`.`n` = %s",
]
DJANGO_DDL = [
    "CREATE TABLE `x` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `n` varchar(50) NOT NULL, "
    "`b` datetime(6) NULL, `d` json NOT NULL CHECK (JSON_VALID(`d`)), `p` numeric(6, 2) NOT NULL, "
    "`a` integer UNSIGNED NOT NULL, CONSTRAINT `agepos` CHECK (`a` >= 0), "
    "CONSTRAINT `u1` UNIQUE (`n`, `a`), `g` integer GENERATED ALWAYS AS (`a` + 1) STORED, "
    "`z` varchar(9) DEFAULT (CONCAT('a', 'b')) NOT NULL)",
    "ALTER TABLE `x` ADD CONSTRAINT `fk` FOREIGN KEY (`y_id`) REFERENCES `y` (`id`)",
    "ALTER TABLE `x` ADD COLUMN `y_id` bigint NOT NULL , ADD CONSTRAINT `fk` FOREIGN KEY (`y_id`) "
    "REFERENCES `y`(`id`)",
    "ALTER TABLE `x` ADD COLUMN `extra` varchar(5) DEFAULT 'q' NOT NULL COMMENT 'hi'",
    "ALTER TABLE `x` ALTER COLUMN `extra` DROP DEFAULT",
    "ALTER TABLE `x` MODIFY `extra` varchar(9) NULL",
    "ALTER TABLE `x` RENAME INDEX `a` TO `b`",
    "CREATE INDEX `i1` ON `x` (`age` DESC, `name`)",
    "CREATE INDEX `i2` ON `x` ((LOWER(`name`)) DESC)",
    "CREATE SPATIAL INDEX `x_id` ON `x`(`point`)",
    "CREATE UNIQUE INDEX i USING BTREE ON d.x (a)",
    "DROP INDEX `i` ON `x`",
    "DROP TABLE `x` CASCADE",
    "RENAME TABLE `a` TO `b`",
    "TRUNCATE `auth_group`;",
    "CREATE DATABASE `test_x` CHARACTER SET utf8mb4",
]
DJANGO_SAVEPOINTS = [
    "SAVEPOINT `s139701506268032_x1`",
    "RELEASE SAVEPOINT `s139701506268032_x1`",
    "ROLLBACK TO SAVEPOINT `s139701506268032_x1`",
]

READS = [
    "SELECT 1",
    "select 1 ; ",
    "SELECT 1; -- the end",
    "SELECT 1;;",
    "/* who asks */ SELECT 1",
    "SELECT /*+ MAX_EXECUTION_TIME(1000) SET_VAR(max_heap_table_size=1) */ 1",
    "# first\n-- second\nSELECT 1",
    "SELECT 1 --",
    "((SELECT 1))",
    "( /* a */ (SELECT 1) UNION SELECT 2)",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "WITH RECURSIVE tree(id, depth) AS (SELECT 1, 2 UNION SELECT 2, 3), `b` (`c`) AS (SELECT 1) "
    "SELECT * FROM tree, b FOR UPDATE",
    "SELECT * FROM (WITH c (a, b) AS (SELECT 1, 2) SELECT * FROM c) d",
    "VALUES ROW(1, 2), ROW(3, 4)",
    "VALUES (1, 2), (3, 4)",
    "TABLE t ORDER BY a LIMIT 3",
    "SELECT * FROM t LOCK IN SHARE MODE",
    "SELECT * FROM t FOR SHARE NOWAIT",
    "SELECT @@global.max_connections, @@session.sql_mode",
    "SELECT sql_no_cache `get_lock` FROM get_lock",
    "SELECT 'GET_LOCK(1,2)', \"@x\", `into`, 'it''s; @y', 'a\\\\', N'x', x'41', _utf8mb4'a' FROM t",
    "SELECT a FROM t WHERE a LIKE 'x%%' AND b LIKE '100%'",
    "SELECT a FROM t WHERE n = %(name)s AND m=%(other_name)s",
    "SELECT a %% 2, a % 2, a % `b` FROM t",
    "SELECT 5 - -%s, 2 * 3 / 4, 1.5e3, 1.5E-3, 1.e+3, .5, 0x1F, t.e, !a, a<=>b, a||b, ~a FROM t",
    "SELECT MAX(a) FROM t WHERE a IN(1,2) AND NOT(a) OR(b) XOR(c) AND EXISTS(SELECT 1)",
    "SELECT CASE(a) WHEN(1) THEN(2) ELSE(3) END, a BETWEEN(1) AND(2), a IS(NULL), a DIV(2) FROM(t)",
    "SELECT * FROM a JOIN(b) USING(id) WHERE(1)",
    "SELECT * FROM t PARTITION (p0) USE INDEX (i) WHERE MATCH (a, b) AGAINST (%s IN BOOLEAN MODE)",
    "SELECT INTERVAL(1, 2), IF(1, 2, 3), LEFT(a, 1), REPLACE(a, 'b', 'c'), INSERT(a, 1, 2, 'b')",
    "SELECT jt.* FROM JSON_TABLE(%s, '$[*]' COLUMNS(a VARCHAR(10) PATH '$.a')) AS jt",
    "SELECT SLEEP(%s), BENCHMARK(9, MD5(1)), RAND(), IS_FREE_LOCK('a')",
    "SELECT a AS 이름 FROM t",
    "SHOW TABLES",
    "SHOW FULL COLUMNS FROM t WHERE Field = LOWER('A')",
    "SHOW CREATE TABLE t",
    "SHOW GLOBAL STATUS LIKE 'Threads%%'",
    "SHOW FULL PROCESSLIST",
    "DESCRIBE t",
    "DESC `d`.`t` 'a%%'",
    "EXPLAIN t a",
    "EXPLAIN (SELECT 1)",
    "EXPLAIN FORMAT='JSON' WITH a AS (SELECT 1) SELECT * FROM a",
    b"SELECT 1",
    "SELECT '이름'".encode(),
]
READS_OF_THE_SESSION = [
    "SELECT LAST_INSERT_ID()",
    "SELECT last_insert_id ( ) AS id",
    "SELECT LAST_INSERT_ID/* a */(/* b */)",
    "SELECT FOUND_ROWS()",
    "SELECT ROW_COUNT(), MAX(a) FROM t",
    "SELECT * FROM t WHERE id = LAST_INSERT_ID()",
    "SELECT @@identity",
    "SELECT @@session.Last_Insert_Id",
    "SELECT @@warning_count, @@error_count",
    "SHOW WARNINGS",
    "SHOW ERRORS LIMIT 3",
    "SHOW COUNT(*) WARNINGS",
]
WRITES = [
    "INSERT t VALUES (1)",
    "INSERT INTO d.t SET a = 1",
    "INSERT HIGH_PRIORITY IGNORE INTO `d` . `t` (a, b) SELECT a, b FROM u",
    "INSERT INTO get_lock (a) VALUES (1)",
    "INSERT INTO t () VALUES ()",
    "REPLACE INTO t (a) VALUES (%s)",
    "REPLACE t SELECT * FROM u",
    "INSERT INTO t WITH c(a) AS (SELECT 1) SELECT a FROM c",
    "UPDATE LOW_PRIORITY t SET a = DEFAULT(a) WHERE b = %s ORDER BY c LIMIT 1",
    "DELETE a, b FROM a JOIN b USING (id)",
    "DELETE FROM t WHERE a = 1 RETURNING id",
    "WITH c AS (SELECT 1) UPDATE t SET a = 1",
    "WITH c (x) AS (SELECT 1) DELETE FROM t WHERE a IN (SELECT x FROM c)",
]
SAVEPOINTS = [
    "savepoint a;",
    "ROLLBACK TO a",
    "ROLLBACK WORK TO SAVEPOINT `a b`",
    "RELEASE /* now */ SAVEPOINT a",
]
DDL = [
    "CREATE TABLE IF NOT EXISTS `d`.`t` (a INT(10), KEY k (a), UNIQUE KEY u USING BTREE (a))",
    "CREATE OR REPLACE TABLE t LIKE u",
    "CREATE TABLE t AS SELECT MAX(a) FROM u",
    "CREATE TABLE t (a enum('x', 'y'), b set('x'), FULLTEXT INDEX f (a), FOREIGN KEY fk (a) "
    "REFERENCES d.u (a) ON DELETE CASCADE)",
    "CREATE OR REPLACE VIEW v (a, b) AS SELECT 1, 2",
    "ALTER VIEW v AS SELECT 1",
    "ALTER TABLE t DROP COLUMN a, ALGORITHM=INPLACE, LOCK=NONE",
    "ALTER IGNORE TABLE t ENGINE=InnoDB",
    "DROP TABLES IF EXISTS a, b",
    "DROP VIEW v",
    "TRUNCATE TABLE t",
    "CREATE SCHEMA IF NOT EXISTS s",
]
OTHERS = [
    # session state, transactions, administration
    "SET NAMES utf8mb4",
    "SET @x = 1",
    "SET STATEMENT max_statement_time=1 FOR SELECT 1",
    "USE d",
    "CALL p(1)",
    "DO SLEEP(1)",
    "HANDLER t OPEN",
    "LOCK TABLES t READ",
    "UNLOCK TABLES",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "ROLLBACK AND CHAIN",
    "XA START 'a'",
    "PREPARE s FROM 'SELECT 1'",
    "EXECUTE s",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "DEALLOCATE PREPARE s",
    "DROP PREPARE s",
    "FLUSH TABLES",
    "KILL 5",
    "ANALYZE TABLE t",
    "OPTIMIZE TABLE t",
    "CHECK TABLE t",
    "REPAIR TABLE t",
    "GRANT ALL ON *.* TO u",
    "GET DIAGNOSTICS @a = NUMBER",
    "LOAD DATA INFILE 'x' INTO TABLE t",
    "SHOW PROFILES",
    "SHOW",
    "SELECT",
    "BOGUS 1",
    # what a statement of a harmless kind may not hold
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO DUMPFILE %s",
    "SELECT 1 INTO @x",
    "TABLE t INTO OUTFILE 'x'",
    "SELECT @x",
    "SELECT @x := 1",
    "SELECT @'x', @`y`",
    "SELECT a, @rank := @rank + 1 FROM t",
    "INSERT INTO t VALUES (@x)",
    "UPDATE t SET a = (@x := a)",
    "SELECT @@x := 5",
    "SELECT @@pseudo_thread_id",
    "SELECT @@`identity`",
    "SELECT @@a.b",
    "SELECT SQL_CALC_FOUND_ROWS * FROM t",
    "SELECT GET_LOCK('a', 1)",
    "SELECT RELEASE_LOCK('a'), 1",
    "SELECT RELEASE_ALL_LOCKS()",
    "SELECT CONNECTION_ID()",
    "SELECT LAST_INSERT_ID(5)",
    "UPDATE t SET a = LAST_INSERT_ID(a + 1)",
    "INSERT INTO t VALUES (LAST_INSERT_ID(), 1)",
    "DELETE FROM t WHERE a = ROW_COUNT()",
    "SELECT NEXTVAL(s)",
    "SELECT NEXT VALUE FOR s",
    "SELECT PREVIOUS VALUE FOR s",
    "SELECT s.nextval",
    "SELECT SETVAL(s, 1)",
    "SELECT MASTER_POS_WAIT('a', 1)",
    "SELECT my_function(1)",
    "SELECT db.lower(a)",
    "SELECT `db` . `lower` (a)",
    "SELECT db./**/sum(a)",
    "SELECT `lower`(a)",
    'SELECT "lower"(a)',
    "SELECT 'lower'(a)",
    "SELECT lower\u3000(a)",
    "SELECT \u017fleep(1)",
    "SELECT * FROM t PROCEDURE ANALYSE()",
    "INSERT DELAYED INTO t VALUES (1)",
    "REPLACE DELAYED t VALUES (1)",
    "INSERT INTO t SELECT 1 INTO @x",
    "UPDATE t SET a = fn(1)",
    "WITH get_lock(x) AS (SELECT 1) SELECT get_lock('a', 1)",
    "WITH c (x) AS (SELECT fn(1)) SELECT * FROM c",
    "SELECT a, fn(b) AS c FROM t",
    "EXPLAIN UPDATE t SET a = 1",
    "EXPLAIN ANALYZE DELETE FROM t",
    "EXPLAIN FOR CONNECTION 5",
    "EXPLAIN WITH c AS (SELECT 1) UPDATE t SET a = 1",
    "EXPLAIN SELECT fn(1)",
    "DESCRIBE SELECT @x := 1",
    "SHOW TABLES WHERE fn(1)",
    # definitions with effects of their own
    "CREATE TEMPORARY TABLE t (a INT)",
    "CREATE OR REPLACE TEMPORARY TABLE t (a INT)",
    "DROP TEMPORARY TABLE t",
    "CREATE TABLE t AS SELECT fn(1)",
    "CREATE TABLE t (a INT) START TRANSACTION",
    "CREATE TABLE t SELECT a FROM b JOIN c ON fn(1)",
    "CREATE VIEW v AS SELECT GET_LOCK('a', 1)",
    "CREATE TABLE t (a INT DEFAULT (fn()))",
    "CREATE PROCEDURE p() SELECT 1",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "CREATE DEFINER=`a`@`b` VIEW v AS SELECT 1",
    "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @x = 1",
    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    "CREATE USER u",
    "DROP DATABASE d",
    "CREATE OR REPLACE DATABASE d",
    "ALTER DATABASE d CHARACTER SET utf8mb4",
    "RENAME USER a TO b",
    "RELEASE SAVEPOINT a, b",
    "SAVEPOINT a b",
    # more than one statement, or none
    "SELECT 1; DROP TABLE t",
    "SELECT 1; SELECT 2",
    "SELECT 1;/* */;@x",
    "",
    " \n",
    ";",
    "-- nothing",
    "/* nothing */",
    "((",
    "( , SELECT 1)",
    "(INSERT INTO t VALUES (1))",
    # what hides in comments and quotes
    "SELECT GET_LOCK /**/ ('a', 1)",
    "SELECT GET_LOCK -- a\n # b\n ('a', 1)",
    "SELECT 'a' , GET_LOCK('it''s', 1)",
    "SELECT 'it''s', fn()",
    "select/**/@x:=1",
    "/*!50000 SET x */",
    "/*!SELECT*/ 1",
    "SELECT 1 /*! , @x := 1 */",
    "SELECT 1 /*M!100100 , fn() */",
    "/* /* */ SELECT 1 */",
    "SELECT 1 /* a /* b */",
    "SELECT /*+ QB_NAME(`*/ 'x`) */ , GET_LOCK('a', 1), ' ' */ 1",
    "SELECT 1 /* not closed",
    "SELECT 'not closed",
    'SELECT "not closed',
    "SELECT `not closed",
    r"SELECT 'a\'",
    r"SELECT 'a\', GET_LOCK(1, 2), ' '",
    r"SELECT '\\\', fn()",
    r"SELECT \N",
    "SELECT 'a\0'",
    "SELECT 1 --\x01fn()",
    "SELECT 1 --fn()",
    "SELECT 1.e--\tfn(1)",  # the sign of an exponent, says MySQL 9.7, and no comment
    "SELECT .5e--\tfn(1)",
    "SELECT 1.5E-- fn(1)",
    "SELECT 1.e(fn(1))",
    "SELECT 1\xa0INTO\xa0OUTFILE\xa0'x'",
    "SELECT {fn NOW()}",
    "SELECT [a]",
    "SELECT $$a$$",
    "SELECT 1 */ 2",
    # parameters that would be bound where they are not a value of their own
    "SELECT '%s'",
    "SELECT 'a' -- %s\n",
    "SELECT /* %s */ 1",
    "SELECT `%s`",
    "SELECT '%(a)s'",
    "SELECT '%-5.1s'",
    "SELECT fn%s(1)",
    "SELECT fn%(a)s(1)",
    "SELECT %s(1)",
    "SELECT %s (1)",
    "SELECT a%s",
    "SELECT %sa",
    "SELECT %.1s",
    "SELECT % 5.1s",
    "SELECT %r",
    "SELECT %(a b)s",
    b"SELECT '\xff'",
]
TABLE: list[tuple[Kind, Iterable[str | bytes]]] = [
    (Kind.READ, [*DJANGO_READS, *READS]),
    (Kind.READ_SESSION, READS_OF_THE_SESSION),
    (Kind.WRITE, [*DJANGO_WRITES, *WRITES]),
    (Kind.SAVEPOINT, [*DJANGO_SAVEPOINTS, *SAVEPOINTS]),
    (Kind.DDL, [*DJANGO_DDL, *DDL]),
    (Kind.OTHER, OTHERS),
]
HARMLESS = [(sql, kind) for kind, texts in TABLE for sql in texts if kind is not Kind.OTHER]


@pytest.mark.parametrize(("sql", "kind"), HARMLESS)
def test_what_leaves_nothing_behind_is_recognised(sql: str | bytes, kind: Kind) -> None:
    assert kind_of(sql) is kind


@pytest.mark.parametrize("sql", OTHERS)
def test_what_may_leave_something_behind_is_other(sql: str | bytes) -> None:
    assert kind_of(sql) is Kind.OTHER


@pytest.mark.parametrize("name", sorted(functions.HARMLESS))
def test_every_harmless_function_may_be_called(name: str) -> None:
    assert kind_of(f"SELECT {name.lower()} (a)") is Kind.READ


def test_no_list_of_functions_overlaps_with_another() -> None:
    assert functions.HARMLESS.isdisjoint(functions.OF_THE_SESSION | functions.NOT_FUNCTIONS)


# -- properties -----------------------------------------------------------------------------------

SPACES = st.sampled_from(
    [" ", "\n", "\t", "\r\n", "/* a, (b) 'c' */", "/**/", "-- it's @x\n", "# `a\n", " /***/ "]
)
TOKENS = re.compile(r"'(?:[^']|'')*'|`[^`]*`|@@[\w.]+|%\(\w+\)s|%s|%%|[\w$]+|[^\s\w]")
STRUCTURED = [
    (sql, kind)
    for sql, kind in HARMLESS
    if isinstance(sql, str) and not re.search(r"[\"\\#]|--|/\*|\w'|[^a-z]\.\d|% ", sql)
]


@given(st.sampled_from(STRUCTURED), st.data())
def test_spaces_and_comments_between_tokens_change_nothing(
    known: tuple[str, Kind], data: st.DataObject
) -> None:
    sql, kind = known
    pieces: list[str] = []
    end = 0
    for token in TOKENS.finditer(sql):
        space = sql[end : token.start()]
        end = token.end()
        pieces += [f" {data.draw(SPACES)} " if space else "", token[0]]
    assert kind_of("".join(pieces)) is kind


@given(st.sampled_from(STRUCTURED), st.data())
def test_capitals_change_nothing(known: tuple[str, Kind], data: st.DataObject) -> None:
    sql, kind = known
    capitals = data.draw(st.lists(st.booleans(), min_size=len(sql), max_size=len(sql)))
    mixed = "".join(
        char.upper() if up and char.isascii() else char
        for char, up in zip(sql, capitals, strict=True)
    )
    assert kind_of(mixed.replace("%S", "%s").replace(")S", ")s")) is kind


@given(st.sampled_from(HARMLESS), st.data())
def test_a_user_variable_outside_quotes_is_other(
    known: tuple[str | bytes, Kind], data: st.DataObject
) -> None:
    text = known[0] if isinstance(known[0], str) else known[0].decode()
    assume(not re.search(r"[\"'`\\#]|--|/\*", text))
    place = data.draw(st.integers(0, len(text)))
    variable = data.draw(st.sampled_from(["@x", " @x ", "@_", " @`a` ", " @'a' ", "@x:=1"]))
    assert kind_of(text[:place] + variable + text[place:]) is Kind.OTHER


QUERIES = [
    sql
    for sql, _kind in HARMLESS
    if isinstance(sql, str) and re.match(r"(SELECT|WITH|UPDATE|DELETE) [^\"'`\\#;/]*\Z", sql)
]


@given(st.sampled_from(QUERIES), st.data())
def test_an_unknown_function_call_is_other(sql: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([found.end() for found in re.finditer(r"\w ", sql)]))
    call = data.draw(st.sampled_from(["get_lock('a', 1)", "d.lower(1)", "`fn` (1)", "fn/**/ ()"]))
    assert kind_of(f"{sql[:place]}{call} {sql[place:]}") is Kind.OTHER


WORDS = ["SELECT", "INSERT INTO t", "WITH a(b) AS (", "UPDATE", "INTO", "AS", "EXPLAIN", "SHOW"]
NAMES = ["TABLE", "VALUES", "lower", "fn", "1", "1e5", "%s", "%(a)s", "@", "@@", "\xa0", "$"]
SIGNS = ["'", "''", '"', "`", "/*", "*/", "/*!", "/*+", "--", "-- ", "#", "\n", " ", ";", "(", ")"]
MORE_SIGNS = [",", ".", "%%", "%", ":=", "\\", "\0", "{"]
PIECES = st.sampled_from(WORDS + NAMES + SIGNS + MORE_SIGNS)


@given(st.lists(PIECES).map("".join) | st.text() | st.binary())
@example("SELECT" + "(" * 5000)
@example("WITH " + ", a ( a" * 2000)
@example("-- " * 4000 + "%s")
def test_junk_never_raises(junk: str | bytes) -> None:
    assert isinstance(kind_of(junk), Kind)


@given(st.lists(PIECES).map("".join))
def test_what_is_quoted_makes_no_difference(quoted: str) -> None:
    assume(not re.search(r"[%\\\0]", quoted))
    inside = quoted.replace("'", "''")
    assert kind_of(f"SELECT a FROM t WHERE b = '{inside}'") is Kind.READ
    assert kind_of(f"SELECT fn(1) FROM t WHERE b = '{inside}'") is Kind.OTHER


# -- size, and what is kept -----------------------------------------------------------------------


@pytest.mark.parametrize("group", ["(%s, %s), ", "(1, 'abc', NULL), ", "(MD5(%s), _binary %s), "])
def test_a_bulk_insert_of_any_length_is_a_write(group: str) -> None:
    text = "INSERT INTO `t` (`a`, `b`) VALUES " + group * (500_000 // len(group)) + "(%s, %s)"
    assert kind_of(text) is Kind.WRITE
    assert kind_of(text + " , (fn(1), 1)") is Kind.OTHER


@pytest.mark.parametrize(
    "text",
    [
        "-- " * 300_000 + "%s",
        "'" * 999_999,
        "SELECT '" + "''" * 400_000 + "%s",
        "/* " * 300_000,
        "SELECT " + ", a (b" * 100_000,
        "WITH a (" + "b , " * 200_000,
        "SELECT fn" + " " * 1_000_000 + "(1)",
        "SELECT " + "% " * 400_000,
        "'%" + "#" * 900_000,
    ],
    ids=lambda text: text[:12],
)
# Looking through the rest from each character would take hours.
@pytest.mark.timeout(60)
def test_a_megabyte_of_what_is_hard_to_read_is_read_once(text: str) -> None:
    assert kind_of(text) is Kind.OTHER


def test_a_long_text_is_not_kept() -> None:
    statements._kept_kind.cache_clear()
    kind_of("SELECT 1 IN (" + "%s, " * 10_000 + "%s)")
    assert statements._kept_kind.cache_info().currsize == 0
    kind_of("SELECT 1")
    kind_of(b"SELECT 1")
    assert statements._kept_kind.cache_info()[:2] == (1, 1)


def test_the_number_of_kept_texts_is_bounded() -> None:
    for number in range(3000):
        kind_of(f"SELECT {number}")
    assert statements._kept_kind.cache_info().currsize == 2048


def test_threads_share_what_is_kept() -> None:
    texts = [(sql, kind) for kind, sqls in TABLE for sql in sqls]
    wrong: list[str | bytes] = []

    def classify() -> None:
        wrong.extend(sql for sql, kind in texts * 5 if kind_of(sql) is not kind)

    threads = [threading.Thread(target=classify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "SET @id = LAST_INSERT_ID()",
        "set @id = last_insert_id /* a */ ( /* * */ )",
        "DO FOUND_ROWS( )",
        "SET @n = ROW_COUNT()",
        "SET @id = @@identity",
        "SET @id = @@session . last_insert_id",
        "GET DIAGNOSTICS @n = NUMBER",
        b"SET @id = LAST_INSERT_ID()",
    ],
)
def test_a_statement_that_looks_back_is_known_by_its_text(text: str | bytes) -> None:
    assert looks_back(text)


@pytest.mark.parametrize(
    "text", ["UPDATE s SET id = LAST_INSERT_ID(id + 1)", "SET @row_count = 1", "SET @x = 1", ""]
)
def test_a_statement_that_only_looks_forward_is_not_held_back(text: str) -> None:
    assert not looks_back(text)


def test_comments_in_a_row_take_no_exponential_time() -> None:
    assert not looks_back("last_insert_id" + "/**/" * 20_000)
