"""Goal: a plugin built with the header of a made-up 1.1 is refused by name where it needs 1.1, and served where
it does not; what its longer option structs say that this host does not know is refused, never ignored."""
import subprocess

import freeze
import pytest

from support import place
from support.peer import fixed

INCLUDE = place.ROOT / "include"
# What 1.1 might append.
CHANGES = [
    ("weft.h", "#define WEFT_ABI_MINOR 0 ", "#define WEFT_ABI_MINOR 1 "),
    ("weft.h", "more: 503; 0: the host's limit alone */\n",
     "more: 503; 0: the host's limit alone */\n    uint32_t flavour; /* 0: none */\n"),
    ("weft_call.h", "    uint32_t reserved; /* 0 */\n",
     "    uint32_t reserved; /* 0 */\n    const char *proxy; /* NULL: none */\n"),
    ("weft_tables.h", "} weft_call_api;", "    uint32_t (*flavour)(weft_op *); /* Since 1.1. */\n} weft_call_api;"),
]
SOURCE = r"""
#include "weft.h"
#include <stdlib.h>

static weft_upstream *partner;

static weft_status hello(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, "hello\n");
}

/* GET /call?proxy=...: what came of a call that may name one */
static weft_status call(weft_ctx *ctx, void *self)
{
    weft_call options = {.size = sizeof options, .path = WEFT_S("/x"), .proxy = weft_query(ctx, "proxy").ptr};
    weft_op *op = weft_call_start(ctx, partner, &options);
    weft_status status = weft_await(op);

    (void)self;
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d %u", (int)status, weft_call_code(op)).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    weft_route_options options = {.size = sizeof options};
    weft_str flavour;

    (void)self;
    WEFT_TRY(weft_setting(host, "flavour", "0", &flavour));
    WEFT_TRY(weft_find_upstream(host, "partner", &partner));
    WEFT_TRY(weft_route(host, "GET", "/call", call));
    options.flavour = (uint32_t)strtoul(flavour.ptr, NULL, 10);
    return weft_route_with(host, "GET", "/newer", hello, NULL, &options);
}

WEFT_PLUGIN("newer", "1.0", init, NULL, NULL);
"""


@pytest.fixture
def newer(tmp_path):
    """Compiles SOURCE against the made-up header, for a host that has at least ABI 1.`target`."""
    texts = {name: (INCLUDE / name).read_text() for name in freeze.HEADERS}
    for name, before, after in CHANGES:
        assert texts[name].count(before) == 1, before
        texts[name] = texts[name].replace(before, after)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "newer.c").write_text(SOURCE)

    def build(target):
        made = tmp_path / "newer.so"
        done = subprocess.run(["gcc", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions",
                               f"-DWEFT_ABI_TARGET={target}", f"-I{tmp_path}", tmp_path / "newer.c", "-o", made],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return made

    return build


def sections(made, peer, **settings):
    return {"upstream.partner": {"url": peer.url}, "plugin.newer": {"path": made, **settings}}


def test_one_that_needs_more_is_refused_by_name(newer, start_weft, peer):
    made = newer(1)
    host = start_weft(sections(made, peer), wait=False)
    host.wait()
    host.stop(code=1)
    assert f"[plugin.newer]: {made} needs ABI 1.1, and this host has 1.0" in host.log


def test_one_that_needs_no_more_is_served(newer, start_weft, peer):
    peer.on("GET", "/x", fixed(status=418))
    host = start_weft(sections(newer(0), peer))
    assert host.get("/newer").body == b"hello\n"
    assert host.get("/call").body == b"0 418"


def test_options_that_the_host_does_not_know_are_refused(newer, start_weft, peer):
    made = newer(0)
    host = start_weft(sections(made, peer))
    assert host.get("/call?proxy=somewhere").body == b"-103 0"
    host.wait_log("options that this host does not know.* plugin=newer")
    assert peer.requests == []
    refused = start_weft(sections(made, peer, flavour=7), wait=False)
    refused.wait()
    refused.stop(code=1)
    assert "route GET /newer: options that this host does not know" in refused.log
