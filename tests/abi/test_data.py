"""Goal: what weft.h says of databases and upstreams is so, through a plugin, against a real PostgreSQL and
a scripted upstream: values of every kind, transactions and their ends, failures with their status and their
line in the log, calls and their answers."""
import urllib.parse

import pytest

from support import place

PLUGIN = place.BUILD / "tests" / "plugins" / "data.so"


@pytest.fixture
def host(start_weft, database, peer):
    database.cluster.run("set role weft; create table names (name text primary key)", database=database.name)
    return start_weft({"pg.main": database.settings, "upstream.partner": {"url": peer.url},
                       "plugin.data": {"path": PLUGIN}})


def names(database):
    return [name for (name,) in database.run("select name from names order by 1")]


def sql(text):
    return urllib.parse.quote(text)


def test_values_of_every_kind(host):
    assert host.get("/values").body.decode() == (
        '1 7 1 -1 i|grüß|1|0.10000000000000001|\\x0001ff|{"a": [1]}|1 0|1|none')


def test_arrays_where_none_can_be(host):
    assert host.get("/misplaced").body == b"-101 -101"


def test_few_parameters_and_many(host):
    for count in (0, 1, 8, 9, 64):
        assert host.get(f"/sum?count={count}").body == str(sum(range(count + 1))).encode()
    assert host.get("/sum?count=65").status == 500
    host.wait_log("too many parameters")


def test_rows_as_json(host):
    row = {"i": -2**63, "t": "grüß", "b": True, "d": 0.1, "x": "\\x0001ff", "j": {"a": [1]}, "n": None}
    answer = host.get("/json")
    assert answer.header("Content-Type") == "application/json"
    assert answer.json() == [row]
    assert host.get("/json?one").json() == row


def test_transactions(host, database):
    assert host.post("/tx?name=kept&end=commit").json() == {"n": 1}
    assert host.post("/tx?name=undone&end=rollback").json() == {"n": 2}
    assert host.post("/tx?name=left&end=not").json() == {"n": 2}
    assert host.post("/names?name=last").body == b"1"
    assert names(database) == ["kept", "last"]


def test_a_transaction_that_has_ended(host, database):
    assert host.post("/tx-ended").body == b"-102 -102 -102"
    host.wait_log(r"weft_run\(\): a database that has gone, or none")
    assert names(database) == []


def test_a_constraint_is_a_409(host):
    assert host.post("/names?name=twice").status == 200
    answer = host.post("/names?name=twice")
    assert answer.status == 409
    assert answer.header("Content-Type").startswith("application/problem+json")
    assert b"duplicate" not in answer.body
    host.wait_log(r'answered 409" plugin=data route="POST /names" .*reason=pg_error .*duplicate.* sqlstate=23505')


def test_what_the_client_gets_for_failures(host):
    for text, status, state in [("select 1/0", 500, "22012"), ("select no", 500, "42703"),
                                ("select 'x'::int", 400, "22P02"), ("select 3e9::int4", 400, "22003")]:
        assert host.get(f"/sql?sql={sql(text)}").status == status, text
        host.wait_log(rf'answered {status}" plugin=data route="GET /sql" .*sqlstate={state}')
    assert host.get("/sql?sql=begin").status == 500
    host.wait_log(r"invalid argument: status -101, answered 500.* error=")
    assert host.post("/names", b"a\0b").status == 400
    assert host.post("/names").status == 409   # no name: NULL
    assert host.get("/values").status == 200


def test_what_a_plugin_is_told_of_failures(host):
    status, state, text, maybe = host.get(f"/failure?sql={sql('select 1/0')}").body.decode().split("|")
    assert (status, state, maybe) == ("-303", "22012", "0")
    assert "division by zero" in text


def test_a_group_that_fails_names_the_statement(host):
    assert host.get("/group").status == 500
    host.wait_log(r'answered 500" plugin=data route="GET /group" .*division by zero.* sqlstate=22012')


def test_calls(host, peer):
    peer.on("PUT", "/x", lambda exchange: exchange.answer(
        418, f"got {exchange.request.body.decode()} {exchange.request.headers['x-ours']}",
        {"X-Theirs": "theirs"}))
    answer = host.ask("PUT", "/call?path=/x%3Fy%3D1", body=b"a body")
    assert answer.body == b"418|theirs|none|got a body 1"
    assert peer.requests[0].target == "/x?y=1"


def test_calls_that_fail(host, peer):
    peer.on("PUT", "/stall", lambda exchange: exchange.stall())
    assert host.ask("PUT", "/call?path=/stall", body=b"").status == 504
    host.wait_log(r'answered 504" plugin=data route="PUT /call" .*reason=upstream_timeout')
    assert host.ask("PUT", "/call?path=no-slash", body=b"").status == 500
    host.wait_log(r'answered 500" plugin=data route="PUT /call" .*reason=upstream_invalid')


def test_answers_are_not_mixed_up(host):
    assert host.get("/mixed").body == b"0 0 0 0"


@pytest.mark.parametrize("text, reason", [
    ("select 17", "statement count: the pool has another text of this name, or other flags"),
    ("listen x", "statement count: ")])
def test_statements_are_refused_at_start(start_weft, database, peer, text, reason):
    host = start_weft({"pg.main": database.settings, "upstream.partner": {"url": peer.url},
                       "plugin.data": {"path": PLUGIN, "declare": text}}, wait=False)
    host.wait()
    host.stop(code=1)
    assert reason in host.log
