"""What the words of a statement tell of it."""

from __future__ import annotations

import pytest

from audit_log.coverage.sql import clearly_writes, only_reads


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "  select name from shop_product where note = 'DELETE; UPDATE' -- drop it",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH some AS (SELECT 1) SELECT * FROM some",
        "SELECT * FROM shop_product FOR UPDATE",
        "SELECT * FROM shop_product FOR NO KEY UPDATE",
        'SELECT "update" FROM t /* INSERT INTO */',
        "SELECT updated_at, deleted FROM t; SHOW server_version;",
        "EXPLAIN SELECT 1",
        "SET statement_timeout = 0",
        "PRAGMA journal_mode",
        "COPY (SELECT 1) TO STDOUT",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX i",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "REFRESH MATERIALIZED VIEW report",
        "SELECT $$INSERT INTO t$$",
        "",
        ";",
    ],
)
def test_these_only_read(text):
    assert only_reads(text)


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE t SET a = 1",
        "insert into t values (1)",
        "SELECT 1; DELETE FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copy FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "TRUNCATE t",
        "REPLACE INTO t VALUES (1)",
        "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
        "COPY t FROM STDIN",
        "CALL tidy_up()",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END",
        "DROP TABLE t",
        "ALTER TABLE t ALTER COLUMN a TYPE text",
        "/*!50000 DELETE FROM t */",
        "ROLLBACK TO SAVEPOINT a",
        "COMMIT",
        "GRANT ALL ON t TO someone",
        "{}",
    ],
)
def test_these_may_write(text):
    assert not only_reads(text)


@pytest.mark.parametrize(
    ("fragment", "writes"),
    [
        ("price * %s", False),
        ("'UPDATE t SET a = 1'", False),
        ("UPDATE t SET a = 1 RETURNING *", True),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", True),
    ],
)
def test_a_piece_writes_where_a_statement_is_in_it(fragment, writes):
    assert clearly_writes(fragment) is writes
