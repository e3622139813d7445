"""Goal: a start and a reload say in time, and with the right sum, that a server, a role or a database does not allow
as many sessions as the settings do, whichever pools share it and however these name it; and a new generation gets its
sessions from the old one, where there are none beside."""
import pytest

from support import place
from support.cluster import Cluster
from support.host import run_weft
from support.load import Load
from support.wait import wait_until

RELOAD = "while a reload goes on"
ASKED = r"pg: (\d+) of (\d+) servers have said"
OF_SERVER = "max_connections of the server less what it reserves"
LAZY = {"sessions_min": 0}
SOON = {"rollback_window": 0}  # the next reload need not wait


def sections(pools, **server):
    """`pools` are the settings of each, by name; none opens a session before a request needs one."""
    return {"server": {"log_level": "debug", **server},
            **{f"pg.{name}": {**LAZY, **settings} for name, settings in pools.items()},
            "upstream.thirdparty": {"url": "http://127.0.0.1:1"}, "plugin.books": {"path": "books.so"}}


def warnings(host):
    return [line for line in host.log.splitlines() if RELOAD in line]


def start_asked(start_weft, made):
    """A host that has heard all servers by now."""
    host = start_weft(made)
    wait_asked(host)
    return host


def wait_asked(host, count=1):
    asked = host.wait_log(ASKED, count=count).groups()
    assert asked[0] == asked[1], host.log


def reload(host, made, count=2):
    host.configure(made)
    done = run_weft("reload", "-c", host.config, timeout=50)
    assert done.returncode == 0, done.stderr + host.log
    wait_asked(host, count)


def conninfo(cluster, **more):
    """Another way to say where a cluster is."""
    keys = {"port": cluster.env["PGPORT"], "host": cluster.env["PGHOST"], "user": "weft", **more}
    return {"conninfo": " ".join(f"{key}={value}" for key, value in keys.items())}


@pytest.fixture
def limit(cluster, books):
    """A function that limits a role or a database to so many sessions, until the test has ended."""
    limited = []

    def alter(what, sessions):
        limited.append(what)
        cluster.run(f"alter {what} connection limit {sessions}")

    yield alter
    for what in limited:
        cluster.run(f"alter {what} connection limit -1")


@pytest.fixture
def another(cluster, books):
    """A second role."""
    cluster.run("create role another login")
    cluster.run(f"grant connect on database {books.name} to another")
    yield "another"
    cluster.run("drop owned by another; drop role another")


@pytest.fixture
def make_cluster():
    made = []

    def make(*options):
        one = Cluster(place.BUILD / "tests" / "pg" / f"sized-{place.free_port()}", *options)
        one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.remove()


# when it is asked

def test_at_the_start_although_nobody_wants_a_session(start_weft, books):
    host = start_weft(sections({"main": {**books.settings, "sessions": 150}}))
    host.wait_log(r"pg main: 1 workers x \(150 sessions \+ up to 2 to cancel and listen\) = 152, and up to 304 while a"
                  rf" reload goes on; {OF_SERVER} allows 197: some may be refused then")
    assert "cannot open a session" not in host.log


def test_one_warning_for_all_workers_and_pools(start_weft, books):
    pools = {name: {**books.settings, "sessions": sessions} for name, sessions in (("main", 90), ("other", 20))}
    host = start_asked(start_weft, sections(pools, workers=2))
    line, = warnings(host)
    assert ("pg main, other: 2 workers x (110 sessions + up to 4 to cancel and listen) = 228, and up to 456 while a"
            f" reload goes on; {OF_SERVER} allows 197: some sessions may be refused") in line


def test_sessions_that_fit(start_weft, books):
    host = start_asked(start_weft, sections({"main": {**books.settings, "sessions": 96}}))
    assert not warnings(host)  # 2 x 98 = 196


def test_a_server_that_comes_later(start_weft, books):
    """The host starts without it, and the sum is done when it is there."""
    books.cluster.stop()
    host = start_weft(sections({"main": {**books.settings, "sessions": 300}}))
    host.wait_log("pg: 0 of 1 servers have said")
    assert not warnings(host)
    books.cluster.start()
    host.wait_log(rf"{OF_SERVER} allows 197: some sessions may be refused", timeout=30)


def test_one_server_that_is_not_there_does_not_keep_others_from_being_told(start_weft, books):
    nowhere = {**books.settings, "host": "127.0.0.1", "port": place.free_port()}
    host = start_weft(sections({"main": {**books.settings, "sessions": 300}, "other": nowhere}))
    host.wait_log(r"pg main: 1 workers x \(300 sessions \+ up to 2 ")
    host.wait_log("pg: 1 of 2 servers have said", count=2)  # asked again, told once
    assert len(warnings(host)) == 1


def test_behind_a_pooler_there_is_nothing_to_ask(start_weft, books):
    host = start_weft(sections({"main": {**books.settings, "sessions": 300, "prepared": "off"}}))
    host.wait_log("pg: 0 of 0 servers have said")
    assert not warnings(host)


# who shares what

def test_pools_that_name_one_server_differently(start_weft, make_cluster):
    """By its socket and by TCP, by keys and by conninfo, with another role and another database."""
    cluster = make_cluster("--tcp")
    env = cluster.env
    tcp = conninfo(cluster, host="127.0.0.1", dbname="weft", password=env["PGPASSWORD"])
    other = conninfo(cluster, dbname="postgres", user="postgres")
    host = start_asked(start_weft, sections({
        "main": {"host": env["PGHOST"], "port": env["PGPORT"], "user": "weft", "dbname": "weft", "sessions": 40},
        "tcp": {**tcp, "sessions": 40}, "other": {**other, "sessions": 40}}))
    line, = warnings(host)
    assert ("pg main, tcp, other: 1 workers x (120 sessions + up to 6 to cancel and listen) = 126, and up to 252 while"
            f" a reload goes on; {OF_SERVER} allows 197: some may be refused then") in line


def test_two_servers_are_not_one(start_weft, books, make_cluster):
    other = make_cluster()
    host = start_asked(start_weft, sections({"main": {**books.settings, "sessions": 60},
                                             "other": {**conninfo(other, dbname="weft"), "sessions": 60}}))
    assert not warnings(host)


def test_a_role_s_limit_is_for_its_pools(start_weft, books, another, limit):
    """Whichever pool it is of; those of other roles do not count."""
    limit("role another", 11)
    mine = {**books.settings, "sessions": 30}
    host = start_asked(start_weft, sections({
        "main": mine, "one": {**books.settings, "user": another, "sessions": 4},
        "two": {**conninfo(books.cluster, dbname="postgres", user=another), "sessions": 3}}))
    line, = warnings(host)
    assert "pg one, two: 1 workers x (7 sessions + up to 4 to cancel and listen) = 11, and up to 22 " in line
    assert line.count("the limit of role another allows 11: some may be refused then") == 1


def test_a_database_s_limit_is_for_all_its_roles(start_weft, books, another, limit):
    limit(f"database {books.name}", 10)
    host = start_asked(start_weft, sections({
        "main": {**books.settings, "sessions": 6}, "one": {**books.settings, "user": another, "sessions": 5},
        "two": {**conninfo(books.cluster, dbname="postgres"), "sessions": 30}}))
    line, = warnings(host)
    assert "pg main, one: 1 workers x (11 sessions + up to 4 to cancel and listen) = 15, and up to 30 " in line
    assert f"the limit of database {books.name} allows 10: some sessions may be refused" in line


def test_a_superuser_has_no_limits(start_weft, books, limit):
    """But what all have together, of which he may have the rest."""
    limit("role postgres", 5)
    limit(f"database {books.name}", 5)
    host = start_asked(start_weft, sections({"main": {**books.settings, "user": "postgres", "sessions": 98}}))
    assert not warnings(host)  # 2 x 100 = 200, of 200


def test_what_is_reserved_is_not_for_us(start_weft, make_cluster):
    cluster = make_cluster("--set", "max_connections=40", "--set", "superuser_reserved_connections=25")
    host = start_weft(sections({"main": {**conninfo(cluster, dbname="weft"), "sessions": 15}}))
    host.wait_log(rf"= 17, .*{OF_SERVER} allows 15: some sessions may be refused")


def test_every_one_of_several_servers(start_weft, books, make_cluster):
    """Though the first is there and no session is ever opened on the second."""
    second = make_cluster("--set", "max_connections=20")
    env, two = books.cluster.env, second.env
    both = conninfo(books.cluster, host=f"{env['PGHOST']},{two['PGHOST']}", port=f"{env['PGPORT']},{two['PGPORT']}",
                    dbname="postgres", target_session_attrs="read-write")
    host = start_asked(start_weft, sections({"main": {**both, "sessions": 30}}))
    line, = warnings(host)
    assert f"= 32, and up to 64 while a reload goes on; {OF_SERVER} allows 17: some sessions may be refused" in line


def test_a_server_that_is_named_twice_counts_once(start_weft, books, limit):
    limit("role weft", 20)
    folder = books.cluster.env["PGHOST"]
    twice = conninfo(books.cluster, host=f"{folder},{folder}/", dbname=books.name)
    host = start_asked(start_weft, sections({"main": {**twice, "sessions": 8}}))
    assert not warnings(host)  # 2 x 10


# what a reload adds

def test_a_reload_to_fewer_sessions(start_weft, books, limit):
    """What the old generation may have counts, not twice what the new one may."""
    limit("role weft", 50)
    host = start_asked(start_weft, sections({"main": {**books.settings, "sessions": 23}}, **SOON))
    assert not warnings(host)  # 2 x 25
    reload(host, sections({"main": {**books.settings, "sessions": 11},
                           "other": {**books.settings, "sessions": 10}}, **SOON))
    assert not warnings(host)  # 11 + 2 + 10 + 2 + 25
    reload(host, sections({"main": {**books.settings, "sessions": 23}}, **SOON), 3)
    reload(host, sections({"main": {**books.settings, "sessions": 3}}, workers=5, **SOON), 4)
    assert not warnings(host)  # 5 x 5 + 25
    reload(host, sections({"main": {**books.settings, "sessions": 40}}, **SOON), 5)
    assert "= 42, and up to 84 while a reload goes on; the limit of role weft allows 50: " in warnings(host)[0]
    reload(host, sections({"main": {**books.settings, "sessions": 12}}, **SOON), 6)
    assert ("= 14, and up to 56 while a reload goes on, as it does; the limit of role weft allows 50: some may be"
            " refused then") in warnings(host)[1]
    assert len(warnings(host)) == 2


def test_an_old_generation_that_had_another_server(start_weft, books, limit, make_cluster):
    """Its sessions are not in our way."""
    other = make_cluster()
    limit("role weft", 32)
    host = start_asked(start_weft, sections({"main": {**conninfo(other, dbname="weft"), "sessions": 28}}, **SOON))
    reload(host, sections({"main": {**books.settings, "sessions": 14}}, **SOON))
    assert not warnings(host)


# sessions that the old generation has

def test_a_reload_where_no_session_is_left(start_weft, books, limit):
    """The next generation's sessions come as those of the old one go, long before that ends, and no client notices."""
    mine = "select pid from pg_stat_activity where usename = 'weft' and datname = %s"
    pool = {**books.settings, "sessions": 4, "sessions_min": 4, "queue_timeout": "15s"}

    def pids():
        return {pid for pid, in books.cluster.run(mine, books.name)}

    limit("role weft", 4)
    host = start_weft(sections({"main": pool}, request_timeout="20s", rollback_window="10m"))
    old = wait_until(lambda: len(now := pids()) == 4 and now)
    workers = set(host.workers())
    with Load(host.address, "/books/1") as load:
        done = run_weft("reload", "-c", host.config, timeout=50)
        assert done.returncode == 0, done.stderr + host.log
        wait_until(lambda: not old & (now := pids()) and len(now) == 4, 30)
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert workers < set(host.workers())  # they could serve again at once
