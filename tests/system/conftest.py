"""Fixtures of the system tests: the real program, a real PostgreSQL, a scripted upstream.

    def test_a_book_is_read(start_weft, books, peer):
        host = start_weft({"pg.main": books.settings, "upstream.thirdparty": {"url": peer.url},
                           "plugin.books": {"path": "books.so"}})
        assert host.get("/books/1").json()["id"] == 1

WEFT_BUILD names the build to test (build/dev). A test may run for 60 seconds, or as long as
@pytest.mark.limit(seconds) says. With WEFT_TEST_ALL=1 a test that is skipped counts as failed.
"""
import os
import pathlib
import resource
import signal

import pytest

from support import place
from support.cluster import Cluster
from support.host import Host
from support.peer import Peer

TEST_S = 60
FILES = 2500


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long the test may run")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Prints why a test is skipped where ./run test finds it; a failure where nothing may be."""
    outcome = yield
    report = outcome.get_result()
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if os.environ.get("WEFT_TEST_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although WEFT_TEST_ALL=1: {reason}"
    else:
        report.sections.append(("skipped", reason))


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        terminalreporter.write_line(f"skipped: {report.nodeid.split('/')[-1]}: {reason}")


@pytest.fixture(autouse=True)
def time_limit(request):
    """Ends a test that hangs."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else TEST_S

    def expire(*_):
        raise AssertionError(f"the test has run for {seconds} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def shared_cluster():
    """The session's cluster. Tests use `cluster`, which leaves it running behind them."""
    name = os.environ.get("WEFT_TEST_NAME", f"by-hand-{os.getpid()}")
    cluster = Cluster(place.BUILD / "tests" / "pg" / name)
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def cluster(shared_cluster):
    """A running PostgreSQL, which the test may pause or stop."""
    yield shared_cluster
    if shared_cluster.is_running():
        shared_cluster.resume()
    else:
        shared_cluster.start()


@pytest.fixture
def database(cluster):
    """An empty database of the test's own."""
    made = cluster.create_database()
    yield made
    if not cluster.is_running():
        cluster.start()
    cluster.resume()
    cluster.drop_database(made)


@pytest.fixture
def books(database):
    """A database with the small library of plugins/books."""
    database.cluster.run("set role weft; " + (place.ROOT / "plugins/books/schema.sql").read_text(),
                         database=database.name)
    return database


@pytest.fixture
def free_port():
    """A function that gives a port which nobody listens on."""
    return place.free_port


@pytest.fixture
def many_files():
    """Descriptors for some thousand clients of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"only {hard} open files are allowed here, not {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def peer():
    """A scripted upstream, which answers 404 until the test says otherwise."""
    made = Peer(place.free_port())
    yield made
    made.end()


@pytest.fixture
def make_peer():
    """A function that makes further scripted upstreams, on a port that may be given."""
    made = []

    def make(port=None):
        made.append(Peer(port or place.free_port()))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def start_weft(tmp_path):
    """A function that starts a host with these sections (or this text) and waits until it listens.

    start_weft({"plugin.hello": {"path": "hello.so"}}). See support.host.Host for what else it takes. At the
    test's end each host that still runs is stopped, and must exit with 0 and without a sanitizer's report."""
    made = []

    def start(sections=None, text=None, wait=True, **more):
        host = Host(pathlib.Path(tmp_path) / f"host{len(made) + 1}", sections, text, **more)
        made.append(host)
        return host.start(wait)

    yield start
    try:
        for host in made:
            host.stop()
    finally:
        for host in made:
            host.kill()
