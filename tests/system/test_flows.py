"""Goal: the four flows and the fan-out answer exactly what they should, in both styles, and so do hello
and echo; what a client does wrong, and what a third party answers wrong, is told in problem+json."""
import json
import socket
import threading

import psycopg2
import pytest

from support import place
from support.client import Client
from support.host import Host
from support.peer import fixed
from support.wait import wait_until

SCHEMA = (place.ROOT / "plugins/books/schema.sql").read_text()
BOOK = {"title": "Emma", "author": "Jane Austen"}
QUOTE = {"text": "Reader, I married him.", "author": "Charlotte Brontë"}


@pytest.fixture(scope="module")
def library_database(shared_cluster):
    made = shared_cluster.create_database()
    yield made
    shared_cluster.drop_database(made)


@pytest.fixture(scope="module")
def running(tmp_path_factory, library_database):
    """A host with all the flows, whose third party listens on `partner_port`."""
    partner_port = place.free_port()
    host = Host(tmp_path_factory.mktemp("flows"), {
        "server": {"request_timeout": "10s"},
        "pg.main": library_database.settings,
        "upstream.thirdparty": {"url": f"http://127.0.0.1:{partner_port}"},
        "plugin.hello": {"path": "hello.so"},
        "plugin.books": {"path": "books.so"},
        "plugin.books_then": {"path": "books_then.so", "mount": "/then"}})
    host.partner_port = partner_port
    host.start()
    yield host
    try:
        host.stop()
    finally:
        host.kill()


@pytest.fixture
def partner(make_peer, running):
    """The third party: it answers every GET with a quote that is a book as well, every POST with what it got."""
    made = make_peer(running.partner_port)
    made.on("GET", None, fixed(body=json.dumps({**QUOTE, **BOOK})))
    made.on("POST", None, lambda exchange: exchange.answer(body=json.dumps({"got": exchange.request.json()})))
    return made


@pytest.fixture(params=["", "/then"], ids=["await", "then"])
def mount(request):
    """The two styles."""
    return request.param


@pytest.fixture
def library(running, library_database):
    """The host, with the books as they were."""
    library_database.run("drop table if exists hidden; set role weft; " + SCHEMA)
    return running


def assert_problem(answer, status):
    """The answer is an application/problem+json of this status; returns it."""
    assert answer.status == status, answer
    assert answer.header("content-type").startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    return problem


def post_json(host, target, value):
    body = value if isinstance(value, (str, bytes)) else json.dumps(value)
    return host.post(target, body, {"Content-Type": "application/json"})


def rows(database, where="true"):
    return database.run(f"select id, title, author from books where {where} order by id")


# hello and echo

def test_hello(library):
    answer = library.get("/hello")
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"Hello, World!\n")
    assert answer.header("content-type").startswith("text/plain")
    assert answer.header("content-length") == "14"
    assert answer.header("date").endswith(" GMT")
    assert answer.header("server")


def test_head_is_get_without_a_body(library):
    with library.connect() as client:
        answer = client.ask("HEAD", "/hello")
        assert (answer.status, answer.header("content-length")) == (200, "14")
        assert client.ask("GET", "/hello").body == b"Hello, World!\n"


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "image/x-odd"])
def test_echo_keeps_the_type(library, kind):
    answer = library.post("/echo", b"\x00\xff any bytes \r\n", {"Content-Type": kind})
    assert (answer.status, answer.body) == (200, b"\x00\xff any bytes \r\n")
    assert answer.header("content-type") == kind


def test_echo_of_nothing_of_chunks_and_of_much(library):
    assert library.post("/echo").body == b""
    with library.connect() as client:
        client.request("POST", "/echo", {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert client.read_answer().body == b"abcde"
        much = bytes(range(256)) * 4096
        assert client.ask("POST", "/echo", body=much).body == much
    assert_problem(library.post("/echo", much + b"x"), 413)


def test_no_such_path_and_no_such_method(library):
    assert_problem(library.get("/nowhere"), 404)
    assert_problem(library.get("/hello/"), 404)
    answer = library.post("/hello")
    assert_problem(answer, 405)
    assert sorted(answer.header("allow").split(", ")) == ["GET", "HEAD"]
    answer = library.ask("DELETE", "/books")
    assert sorted(answer.header("allow").split(", ")) == ["GET", "HEAD", "POST"]


# client -> database

def test_all_books_by_id(library, mount, library_database):
    answer = library.get(mount + "/books")
    assert answer.status == 200
    assert answer.header("content-type").startswith("application/json")
    wanted = [{"id": key, "title": title, "author": author} for key, title, author in rows(library_database)]
    assert len(wanted) == 12
    assert answer.json() == wanted


def test_no_books_are_an_empty_array(library, mount, library_database):
    library_database.run("delete from books")
    assert library.get(mount + "/books").body.strip() == b"[]"


def test_one_book(library, mount):
    answer = library.get(mount + "/books/2")
    assert answer.status == 200
    assert answer.json() == {"id": 2, "title": "The Pillow Book", "author": "Sei Shōnagon"}
    assert library.get(mount + "/books/%32").json()["id"] == 2
    answer = library.ask("HEAD", mount + "/books/2")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("key", ["999999", "0", "-1"])
def test_a_book_that_is_not_there(library, mount, key):
    assert_problem(library.get(f"{mount}/books/{key}"), 404)


@pytest.mark.parametrize("key", ["one", "1.5", "1x", "99999999999999999999", "%00", "1%2f2"])
def test_an_id_that_is_no_number(library, mount, key):
    assert_problem(library.get(f"{mount}/books/{key}"), 400)


@pytest.mark.parametrize("book", [
    BOOK,
    {"title": "\"Quotes\" \\ and \t tabs", "author": "'; drop table books; --"},
    {"title": "百年の孤独 😀", "author": "é"},
    {"title": "x" * 10000, "author": "y"},
    {**BOOK, "year": 1815},
])
def test_a_new_book(library, mount, library_database, book):
    answer = post_json(library, mount + "/books", book)
    assert answer.status == 201, answer
    made = answer.json()
    assert made == {"id": 13, "title": book["title"], "author": book["author"]}
    assert answer.header("location") == f"{mount}/books/13"
    assert library.get(answer.header("location")).json() == made
    assert rows(library_database, "id > 12") == [(13, book["title"], book["author"])]


@pytest.mark.parametrize("body", [
    "", "{", "null", "[]", '"book"', '{"title": "a"}', '{"author": "a"}', '{"title": "", "author": "a"}',
    '{"title": "a", "author": ""}', '{"title": 1, "author": "a"}', '{"title": "a", "author": null}',
    '{"title": ["a"], "author": "a"}', '{"title": "a", "author": "b"} x', b'{"title": "\xff", "author": "b"}',
    '{"title": "a\\u0000b", "author": "b"}',
])
def test_a_book_that_is_none(library, mount, library_database, body):
    problem = assert_problem(post_json(library, mount + "/books", body), 400)
    assert problem["detail"]
    assert len(rows(library_database)) == 12


def test_a_book_that_a_constraint_refuses(library, mount, library_database):
    library_database.run("alter table books add unique (title)")
    assert post_json(library, mount + "/books", BOOK).status == 201
    assert_problem(post_json(library, mount + "/books", BOOK), 409)
    assert len(rows(library_database)) == 13


def test_a_statement_that_fails_is_logged_with_its_sqlstate(library, mount, library_database):
    library_database.run("alter table books rename to hidden")
    assert_problem(library.get(mount + "/books"), 500)
    library.wait_log(r'route="GET \S*/books".* statement=all_books sqlstate=42P01')
    library_database.run("alter table hidden rename to books")
    assert library.get(mount + "/books").status == 200


# client -> API

def test_quote(library, mount, partner):
    answer = library.get(mount + "/quote")
    assert (answer.status, answer.json()) == (200, {**QUOTE, **BOOK})
    assert answer.header("content-type").startswith("application/json")
    assert partner.requests[0].headers["host"] == f"127.0.0.1:{library.partner_port}"


# client -> API -> database

def test_import(library, mount, partner, library_database):
    answer = library.post(mount + "/books/import")
    assert answer.status == 201, answer
    assert answer.json() == {"id": 13, **BOOK}
    assert answer.header("location") == f"{mount}/books/13"
    assert rows(library_database, "id > 12") == [(13, BOOK["title"], BOOK["author"])]
    assert [request.method for request in partner.requests] == ["GET"]


@pytest.mark.parametrize("answer", [
    {"status": 500, "body": "{}"}, {"status": 404, "body": "{}"}, {"body": "no json"}, {"body": "[]"},
    {"body": '{"title": 1, "author": "a"}'}, {"body": '{"title": "a"}'}, {"body": ""},
], ids=str)
def test_import_of_what_is_no_book(library, mount, partner, library_database, answer):
    partner.on("GET", None, fixed(**answer))
    assert_problem(library.post(mount + "/books/import"), 502)
    assert len(rows(library_database)) == 12


# client -> database -> API

def test_announce(library, mount, partner):
    answer = library.post(mount + "/books/1/announce")
    assert (answer.status, answer.json()) == (200, {"got": {"id": 1, "title": "The Odyssey", "author": "Homer"}})
    sent = partner.requests[0]
    assert (sent.method, sent.headers["content-type"]) == ("POST", "application/json")


def test_announce_of_no_book(library, mount, partner):
    assert_problem(library.post(mount + "/books/999/announce"), 404)
    assert_problem(library.post(mount + "/books/one/announce"), 400)
    assert partner.requests == []


def test_announce_that_the_third_party_does_not_take(library, mount, partner):
    partner.on("POST", None, fixed(status=500, body="{}"))
    assert_problem(library.post(mount + "/books/1/announce"), 502)


# both at once

def test_summary(library, mount, partner):
    answer = library.get(mount + "/summary")
    assert (answer.status, answer.json()) == (200, {"books": 12, "quote": {**QUOTE, **BOOK}})


def test_summary_asks_both_at_once(library, mount, partner, library_database):
    """While the database waits for a lock, the third party has been asked, and has not answered yet."""
    may_answer = threading.Event()

    def answer_later(exchange):
        may_answer.wait(10)
        exchange.answer(body=json.dumps(QUOTE))

    def is_waiting():
        return library_database.run("select 1 from pg_stat_activity where wait_event_type = 'Lock'"
                                    " and datname = current_database()")

    partner.on("GET", None, answer_later)
    env = library_database.cluster.env
    locker = psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres", dbname=library_database.name)
    try:
        locker.cursor().execute("lock table books")
        with library.connect() as client:
            client.request("GET", mount + "/summary")
            partner.wait_requests(1)
            wait_until(is_waiting)
            locker.rollback()
            may_answer.set()
            assert client.read_answer().json() == {"books": 12, "quote": QUOTE}
    finally:
        may_answer.set()
        locker.close()


def test_summary_without_the_one_or_the_other(library, mount, partner, library_database):
    partner.on("GET", None, fixed(status=500, body="{}"))
    assert_problem(library.get(mount + "/summary"), 502)
    partner.on("GET", None, lambda exchange: exchange.reset())
    assert_problem(library.get(mount + "/summary"), 502)
    partner.on("GET", None, fixed(body=json.dumps(QUOTE)))
    library_database.run("alter table books rename to hidden")
    assert_problem(library.get(mount + "/summary"), 500)


# all of it

def test_the_mount_is_the_plugin_s_own(library):
    """What the one style makes the other one finds, and the prefix is no part of the database's world."""
    location = post_json(library, "/then/books", BOOK).header("location")
    assert location == "/then/books/13"
    assert library.get("/books/13").json() == library.get("/then/books/13").json()
    assert_problem(library.get("/then/hello"), 404)


def test_many_at_once_in_both_styles(library, partner):
    """Eight clients, each with all reading routes, pipelined: everybody gets what they asked for."""
    targets = [f"{mount}{path}" for mount in ("", "/then")
               for path in ("/books/1", "/quote", "/books/2", "/summary", "/books", "/books/x")]
    wanted = [library.get(target) for target in targets]
    clients = [Client(library.address) for _ in range(8)]
    try:
        for client in clients:
            for target in targets * 3:
                client.request("GET", target)
        for client in clients:
            for expected in wanted * 3:
                answer = client.read_answer()
                assert (answer.status, answer.body) == (expected.status, expected.body)
    finally:
        for client in clients:
            client.close()


def test_a_thousand_clients_at_once(many_files, start_weft, library_database):
    """With the demo's third party: in both styles nobody gets anything but what they asked for."""
    library_database.run("drop table if exists hidden; set role weft; " + SCHEMA)
    thirdparty = start_weft({"plugin.thirdparty": {"path": "thirdparty.so"}})
    host = start_weft({
        "server": {"workers": 2, "request_timeout": "30s"},
        "pg.main": {**library_database.settings, "queue_timeout": "30s"},
        "upstream.thirdparty": {"url": thirdparty.url, "queue_timeout": "30s", "first_byte_timeout": "30s"},
        "plugin.books": {"path": "books.so"}, "plugin.books_then": {"path": "books_then.so", "mount": "/then"}})
    clients = [Client(host.address, timeout=50) for _ in range(1000)]
    for target in ("/books/1", "/summary", "/then/summary"):
        for client in clients:
            client.request("GET", target)
        answers = [client.read_answer() for client in clients]
        assert {answer.status for answer in answers} == {200}
        assert all(answer.json().get("id") == 1 or answer.json()["books"] == 12 for answer in answers)
    for client in clients:
        client.close()


def test_lines_of_the_access_log(library, partner):
    library.get("/then/summary")
    line = library.wait_access(path="/then/summary", method="GET", status=200)
    assert (line["route"], line["plugin"], line["why"]) == ("/then/summary", "books_then", "done")
    assert float(line["queue_ms"]) + float(line["pg_ms"]) > 0 and float(line["call_ms"]) > 0
    assert float(line["total_ms"]) >= max(float(line["pg_ms"]), float(line["call_ms"]))
    assert line["peer"].startswith("127.0.0.1:")


def test_requests_survive_a_client_that_closes_at_once(library):
    for _ in range(20):
        client = socket.create_connection(library.address)
        client.sendall(b"GET /books HTTP/1.1\r\nHost: a\r\n\r\n")
        client.close()
    assert library.get("/books").status == 200
