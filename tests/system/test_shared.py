"""Goal: what a plugin counts in memory that it asked for by name is counted over all workers, and is still there
after a crash and a reload; what cannot be had is refused with its reason, and a try counts nothing."""
import os
import signal

import pytest

from support import plugin
from support.host import run_weft

SOURCE = r"""
#include <weft.h>

static uint64_t *count, *starts;

static weft_status add(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%llu", (unsigned long long)__atomic_add_fetch(count, 1, __ATOMIC_RELAXED)).ptr);
}

static weft_status show_starts(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%llu", (unsigned long long)__atomic_load_n(starts, __ATOMIC_RELAXED)).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    int64_t bytes;
    void *more;

    (void)self;
    WEFT_TRY(weft_setting_int(host, "bytes", 0, INT64_MAX, 8, &bytes));
    WEFT_TRY(weft_shared(host, "test.count", sizeof *count, (void **)&count));
    WEFT_TRY(weft_shared(host, "test.starts", sizeof *starts, (void **)&starts));
    WEFT_TRY(weft_shared(host, "test.more", (size_t)bytes, &more));
    __atomic_add_fetch(starts, 1, __ATOMIC_RELAXED);
    WEFT_TRY(weft_route(host, "GET", "/starts", show_starts));
    return weft_route(host, "GET", "/add", add);
}

WEFT_PLUGIN("counter", "1.0", init, NULL, NULL);
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    return plugin.build(tmp_path_factory.mktemp("plugins"), "counter", SOURCE)


def sections(counter, size="64k", **more):
    return {"server": {"workers": 2, "shared_memory": size}, "plugin.counter": {"path": counter, **more}}


def text(host, target):
    answer = host.get(target)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def test_one_count_for_all_workers(start_weft, counter):
    host = start_weft(sections(counter))
    host.wait_log("serving: ")
    assert [text(host, "/add") for _ in range(50)] == [str(i) for i in range(1, 51)]
    assert text(host, "/starts") == "2"

    victim = host.workers()[0]
    os.kill(victim, signal.SIGKILL)
    host.wait_log("is back as process")
    assert text(host, "/add") == "51"

    done = run_weft("reload", "-c", host.config)
    assert done.returncode == 0, done.stderr
    assert text(host, "/add") == "52"
    assert text(host, "/starts") == "5"
    host.stop()


def test_what_cannot_be_had(start_weft, counter):
    reasons = {65536: "shared memory 'test.more', 65536 bytes: more than [server] shared_memory leaves",
               0: "shared memory: a name of 1 to 63 bytes and a size expected"}
    for size, reason in reasons.items():
        host = start_weft(sections(counter, bytes=size), wait=False)
        assert host.wait() == 1
        assert reason in host.log
        host.process = None


def test_a_check_has_its_own(tmp_path, counter):
    done = run_weft("check", counter)
    assert done.returncode == 0, done.stderr
    assert "/add" in done.stdout


def test_a_reload_cannot_change_its_size(start_weft, counter):
    host = start_weft(sections(counter))
    host.wait_log("serving: ")
    host.configure(sections(counter, size="1M"))
    done = run_weft("reload", "-c", host.config)
    assert done.returncode == 0
    assert "shared_memory" in done.stdout + done.stderr
    host.stop()
