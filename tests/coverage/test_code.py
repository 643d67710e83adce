"""Places in code: what is listed, what is not, and what a comment accepts."""

from __future__ import annotations

import textwrap

import pytest

from audit_log.coverage import code, sources


@pytest.fixture
def places(tmp_path):
    """The places in a text of Python."""

    def find(text: str):
        path = tmp_path / "module.py"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return list(code.places(sources.parse(path, "module.py")))

    return find


LISTED = [
    ("sql", 'cursor.execute("UPDATE t SET a = 1")'),
    ("sql", 'connection.cursor().execute("DELETE FROM t")'),
    ("sql", 'connections["x"].cursor().executemany("INSERT INTO t VALUES (%s)", rows)'),
    ("sql", 'with connection.cursor() as c:\n    c.execute("TRUNCATE t")'),
    ("sql", 'c = connection.cursor()\nc.execute("TRUNCATE t")'),
    ("sql", 'self.handle = connection.cursor()\nself.handle.execute("TRUNCATE t")'),
    ("sql", 'async def f():\n    c = await conn.cursor()\n    await c.execute("DROP TABLE t")'),
    ("sql", "cursor.execute(sql)"),
    ("sql", "cursor.execute(sql=make())"),
    ("sql", 'cursor.execute(f"SELECT {what}")'),
    ("sql", 'cursor.execute("SELECT %s" % what)'),
    ("sql", 'cursor.execute("SELECT {}".format(what))'),
    ("sql", 'cursor.execute("SELECT " + what)'),
    ("sql", 'SQL = "UPDATE t SET a = 1"\ncursor.execute(SQL)'),
    ("sql", 'q = "SELECT 1"\nq += more\ncursor.execute(q)'),
    ("sql", 'q = "SELECT 1"\ndef f(q):\n    cursor.execute(q)'),
    ("sql", 'q = "SELECT 1"\nif a:\n    q = "DELETE FROM t"\ncursor.execute(q)'),
    ("sql", "q = q + q\ncursor.execute(q)"),
    ("sql", 'schema_editor.execute("UPDATE t SET a = 1")'),
    ("sql", 'whoever.execute("UPDATE t SET a = 1")'),
    ("sql", 'cursor.callproc("tidy_up")'),
    ("sql", 'cursor.copy("COPY t FROM STDIN")'),
    ("sql", 'cursor.copy_from(file, "t")'),
    ("sql", 'execute_values(cursor, "INSERT INTO t VALUES %s", rows)'),
    ("sql", 'conn.execute(text("UPDATE t SET a = 1"))'),
    ("sql", 'Thing.objects.raw("UPDATE t SET a = 1 RETURNING *")'),
    ("sql", 'RawSQL("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", [])'),
    ("run-sql", 'migrations.RunSQL("UPDATE t SET a = 1")'),
    ("run-sql", 'RunSQL(["SELECT 1", ("INSERT INTO t VALUES (%s)", [1])])'),
    ("run-sql", 'RunSQL("SELECT 1", reverse_sql="DELETE FROM t")'),
    ("run-sql", "RunSQL(open('x.sql').read())"),
    ("run-python", "migrations.RunPython(fill, migrations.RunPython.noop)"),
    ("run-python", "RunPython(lambda apps, schema_editor: None)"),
    ("internals", "Thing.objects.filter(a=1)._update([])"),
    ("internals", "Thing._base_manager._insert([], [])"),
    ("internals", "query.get_compiler(using).execute_sql(None)"),
    ("internals", "sql.UpdateQuery(Thing)"),
    ("driver", 'import psycopg\npsycopg.connect("")'),
    ("driver", 'import sqlite3 as lite\nlite.connect("x")'),
    ("driver", 'from sqlalchemy import create_engine\ncreate_engine("x")'),
    ("driver", 'from mysql import connector\nconnector.connect("x")'),
    ("suspended", 'import audit_log\nwith audit_log.suspended("import"):\n    pass'),
    ("suspended", "from audit_log import suspended as quiet\n@quiet()\ndef f(): pass"),
]


@pytest.mark.parametrize(("kind", "text"), LISTED, ids=[text for _, text in LISTED])
def test_these_are_listed(places, kind, text):
    (place,) = places(text)
    assert place.kind == kind
    assert place.path == "module.py"
    assert place.unseen


@pytest.mark.parametrize(
    "text",
    [
        'cursor.execute("SELECT 1")',
        'cursor.execute("SELECT a " "FROM t" + " WHERE b")',
        'SQL = "SELECT 1"\ncursor.execute(SQL)',
        'def f():\n    q = "SELECT 1"\n    cursor.execute(q)\ndef g():\n    q = "SHOW x"',
        'cursor.execute(dedent("""SELECT 1"""))',
        "cursor.fetchall()",
        "executor.execute(job)",
        "cache_connection.copy()",
        'text = "cursor.execute(UPDATE t SET a = 1)"',
        "Thing.objects.raw(sql)",
        'RawSQL("a * %s", [2])',
        "RunSQL(RunSQL.noop)",
        'RunSQL("CREATE INDEX i ON t (a)", reverse_sql="DROP INDEX i")',
        "RunPython(RunPython.noop)",
        "migrations.RunPython(code=migrations.RunPython.noop)",
        "self._update(a=1)",
        "widget._insert(0)",
        "super()._do_update(*args)",
        "Thing.objects.filter(a=1).update(a=2)",
        "Thing.objects.bulk_create(rows)",
        "Thing.objects.all()._raw_delete(using)",
        'import psycopg\npsycopg.sql.SQL("x")',
        'signal.connect("x")',
        "suspended()",
        "def f(): pass",
    ],
)
def test_these_are_not(places, text):
    assert places(text) == []


def test_places_come_in_the_order_of_lines_with_what_they_do(places):
    found = places('''
        cursor.execute("""
            UPDATE t
            SET a = 1
        """)
        cursor.execute(sql)
        cursor.execute(
            "DELETE FROM a_table_of_the_projects "
            "WHERE some_column IN (10, 20, 30, 40, 50) OR another_column IN (60, 70)"
        )
    ''')
    assert [place.line for place in found] == [2, 6, 7]
    assert found[0].what == "execute: UPDATE t SET a = 1"
    assert found[1].what == "execute: SQL made at run time"
    assert len(found[2].what) < 100
    assert found[2].what.endswith("…")


@pytest.mark.parametrize(
    "text",
    [
        "cursor.execute(sql)  # audit: seen",
        "cursor.execute(sql)  #audit:seen, the nightly import says so in its own event",
        "# audit: seen\ncursor.execute(sql)",
        "cursor.execute(\n    sql,  # audit: seen\n    [],\n)",
    ],
)
def test_comment_accepts_a_place(places, text):
    (place,) = places(text)
    assert place.accepted
    assert not place.unseen


@pytest.mark.parametrize(
    "text",
    [
        "cursor.execute(\"UPDATE t SET a = '# audit: seen'\")",
        "x = 1  # audit: seen\ncursor.execute(sql)",
        "cursor.execute(sql)\n# audit: seen",
        "cursor.execute(sql)  # audit: seems fine",
        '"""\n# audit: seen\n"""\ncursor.execute(sql)',
    ],
)
def test_no_other_text_does(places, text):
    (place,) = places(text)
    assert not place.accepted


def test_other_encodings_are_read(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes("# coding: latin-1\ncursor.execute(ä)  # audit: seen: ö\n".encode("latin-1"))
    (place,) = code.places(sources.parse(path, "latin.py"))
    assert place.accepted
