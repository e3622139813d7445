"""Goal: of several servers the host finds the one that it wants, follows when another one becomes the primary, and
loses nothing on the way that it has told a client."""
import itertools
import re
import threading
import time

import pytest

from support import place
from support.client import Client
from support.cluster import Cluster, Database
from support.wait import wait_until

PLUGIN = place.BUILD / "tests" / "plugins" / "data.so"
CLIENTS = 8


@pytest.fixture
def primary(cluster):
    """The session's cluster would be of no use afterwards."""
    made = Cluster(place.BUILD / "tests" / "pg" / f"primary-{place.free_port()}")
    made.start()
    made.run("set role weft; create table names (name text primary key)", database="weft")
    yield made
    made.remove()


@pytest.fixture
def standby(primary):
    made = Cluster(place.BUILD / "tests" / "pg" / f"standby-{place.free_port()}", "--standby-of", primary.folder)
    made.start()
    yield made
    made.remove()


@pytest.fixture
def start(start_weft, primary, standby, peer):
    def start_with(target, is_primary_first=True, **more):
        env = [one.env for one in ((primary, standby) if is_primary_first else (standby, primary))]
        hosts = ",".join(one["PGHOST"] for one in env)
        ports = ",".join(one["PGPORT"] for one in env)
        return start_weft({
            "server": {"request_timeout": "30s"}, "upstream.partner": {"url": peer.url}, "plugin.data": {"path": PLUGIN},
            "pg.main": {"conninfo": f"host={hosts} port={ports} user=weft dbname=weft target_session_attrs={target}",
                        "queue_timeout": "20s", "connect_timeout": "2s", **more}})
    return start_with


class Writers:
    """Clients that add one name after the other; `told` has what each was answered."""

    def __init__(self, host):
        self.host = host
        self.told = {}
        self.faults = []
        self.names = itertools.count(1)
        self.is_ending = threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        try:
            with Client(self.host.address, timeout=40) as client:
                while not self.is_ending.is_set():
                    name = str(next(self.names))
                    self.told[name] = client.ask("POST", f"/names?name={name}").status
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(repr(error))

    def count(self, status=200):
        return list(self.told.values()).count(status)

    def more(self, count=50):
        """So many more have been added."""
        before = self.count()
        wait_until(lambda: self.count() >= before + count or self.faults, 30)

    def end(self):
        self.is_ending.set()
        for thread in self.threads:
            thread.join()
        assert not self.faults, self.faults


def names_of(cluster):
    return {name for name, in Database(cluster, "weft").run("select name from names")}


def catch_up(standby, primary):
    (end,), = primary.run("select pg_current_wal_lsn()")
    wait_until(lambda: standby.run("select pg_last_wal_replay_lsn() >= %s::pg_lsn", end) == [(True,)], 30)


def sessions_of(cluster):
    return cluster.run("select count(*) from pg_stat_activity where application_name = 'weft'")[0][0]


@pytest.mark.limit(150)
def test_a_primary_that_is_demoted(start, primary, standby):
    """It goes on, but takes no more writes; nobody who writes gets to know."""
    host = start("read-write")
    writers = Writers(host)
    try:
        writers.more()
        primary.run("alter system set default_transaction_read_only = on")
        primary.run("select pg_reload_conf()")
        wait_until(lambda: sessions_of(primary) == 0, 30)
        catch_up(standby, primary)
        standby.run("select pg_promote()")
        writers.more()
    finally:
        writers.end()
    assert set(writers.told.values()) == {200}
    assert names_of(standby) == set(writers.told)
    assert sessions_of(primary) == 0
    host.wait_log("takes no writes any more")
    assert re.search("cannot open a session: .* session is read-only; .* session is read-only", host.log)


@pytest.mark.limit(150)
def test_a_primary_that_goes(start, primary, standby):
    """What was told done is there; who was under way is told that it is not known."""
    host = start("primary")
    writers = Writers(host)
    try:
        writers.more()
        primary.stop(now=False)
        standby.run("select pg_promote()")
        writers.more()
    finally:
        writers.end()
    there = names_of(standby)
    assert set(writers.told.values()) <= {200, 503}
    assert {name for name, status in writers.told.items() if status == 200} <= there
    assert writers.count(503) < 200


def is_standby(host):
    answer = host.get("/sql?sql=select+pg_is_in_recovery()::text+as+is_so", timeout=30)
    return answer.status == 200 and answer.json()[0]["is_so"] == "true"


def test_readers_are_sent_to_the_standby(start, standby):
    host = start("prefer-standby", session_age="200ms")
    assert all(is_standby(host) for _ in range(10))
    standby.stop()
    wait_until(lambda: host.get("/sql?sql=select+1+as+one").status == 200, 30)
    assert not is_standby(host)
    standby.start()
    wait_until(lambda: is_standby(host) or time.sleep(0.3), 30, "sessions do not come back to the standby")


@pytest.mark.limit(150)
def test_each_target_finds_its_server(start, primary, standby):
    """The one that is not wanted stands first, but for "any", which takes whoever does."""
    targets = {"any": primary, "primary": primary, "read-write": primary, "standby": standby, "read-only": standby,
               "prefer-standby": standby}
    for target, wanted in targets.items():
        other = primary if wanted is standby else standby
        host = start(target, is_primary_first=target == "any" or wanted is standby)
        assert [is_standby(host) for _ in range(5)] == [wanted is standby] * 5, target
        wait_until(lambda: sessions_of(other) == 0, 5)  # that which asks how many it may open goes at once
        host.stop()
        wait_until(lambda: sessions_of(wanted) == 0)
