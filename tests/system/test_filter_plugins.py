"""Goal: cors, ratelimit, basicauth and compress do with real requests what their users count on: browsers, many
workers, hashes of htpasswd, gzip of curl; and refuse settings that could not work."""
import base64
import concurrent.futures
import ctypes
import gzip
import re
import zlib

import pytest

from support import place, plugin
from support.host import run_weft

PLUGINS = place.BUILD / "plugins"
SHOP = "https://shop.example"

# GET /page?bytes=N&type=T&piece=P and headers h=NAME:VALUE: so many bytes, in pieces of P or as a whole.
PAGE = r"""
#include <weft.h>
#include <fcntl.h>
#include <stdlib.h>

static weft_status page(weft_ctx *ctx, void *self)
{
    weft_str bytes = weft_query(ctx, "bytes"), type = weft_query(ctx, "type"), piece = weft_query(ctx, "piece");
    weft_str field = weft_query(ctx, "field"), code = weft_query(ctx, "code");
    size_t size = bytes.ptr != NULL ? strtoul(bytes.ptr, NULL, 10) : 5000;
    size_t step = piece.ptr != NULL ? strtoul(piece.ptr, NULL, 10) : 0;
    char *text = weft_alloc(ctx, size + 1);

    (void)self;
    for (size_t i = 0; i < size; i++)
        text[i] = "0123456789 the same again and again\n"[i % 36];
    if (field.ptr != NULL) {
        char *colon = strchr(field.ptr, ':');
        *colon = '\0';
        WEFT_TRY(weft_set_header(ctx, field.ptr, weft_cstr(colon + 1)));
    }
    if (step == 0)
        return weft_reply(ctx, code.ptr != NULL ? (uint32_t)atoi(code.ptr) : 200,
                          type.ptr != NULL ? type.ptr : "text/plain", (weft_str){text, size});
    WEFT_TRY(weft_reply_begin(ctx, 200, type.ptr != NULL ? type.ptr : "text/plain"));
    for (size_t at = 0; at < size; at += step)
        WEFT_TRY(weft_await(weft_write(ctx, (weft_str){text + at, size - at < step ? size - at : step})));
    return weft_reply_end(ctx);
}

static weft_status send_file(weft_ctx *ctx, void *self)
{
    weft_file file = {sizeof file, open(weft_query(ctx, "path").ptr, O_RDONLY | O_CLOEXEC), 0,
                      strtoull(weft_query(ctx, "bytes").ptr, NULL, 10)};

    (void)self;
    return weft_reply_file(ctx, 200, "text/plain", &file);
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/file", send_file));
    WEFT_TRY(weft_route(host, "GET", "/page", page));
    return weft_route(host, "GET", "/api/page", page);
}

WEFT_PLUGIN("page", "1.0", init, NULL, NULL);
"""


def text_of(size):
    return (b"0123456789 the same again and again\n" * (size // 36 + 1))[:size]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return plugin.build(tmp_path_factory.mktemp("plugins"), "page", PAGE)


@pytest.fixture
def start(start_weft, page):
    def begin(name, server=None, **options):
        return start_weft({"server": {"workers": 1, **(server or {})}, "plugin.page": {"path": page},
                           "plugin.it": {"path": PLUGINS / f"{name}.so", **options}})
    return begin


def refused(start_weft, page, name, reason, **options):
    host = start_weft({"plugin.page": {"path": page}, "plugin.it": {"path": PLUGINS / f"{name}.so", **options}},
                      wait=False)
    assert host.wait() == 1
    assert re.search(reason, host.log), host.log
    host.process = None


# ---- cors ----

PREFLIGHT = [("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "content-type")]


def test_cors_preflight(start):
    host = start("cors", mount="/api", origins=f"https://other.example {SHOP}", methods="GET, PUT",
                 headers="Content-Type", max_age=60)
    for path in ("/api/page", "/api/nothing"):
        answer = host.ask("OPTIONS", path, headers=[("Origin", SHOP), *PREFLIGHT])
        assert answer.status == 204
        assert answer.header("Access-Control-Allow-Origin") == SHOP
        assert answer.header("Access-Control-Allow-Methods") == "GET, PUT"
        assert answer.header("Access-Control-Allow-Headers") == "Content-Type"
        assert answer.header("Access-Control-Max-Age") == "60"
        assert answer.header("Vary") == "Origin"
    answer = host.ask("OPTIONS", "/api/page", headers=[("Origin", "https://evil.example"), *PREFLIGHT])
    assert answer.status == 403
    assert answer.header("Access-Control-Allow-Origin") is None
    assert host.ask("OPTIONS", "/api/page", headers=[("Origin", SHOP)]).status == 405   # no preflight
    assert host.ask("OPTIONS", "/page", headers=[("Origin", SHOP), *PREFLIGHT]).status == 405


def test_cors_answers(start):
    host = start("cors", origins=SHOP, credentials="on", expose="X-Total")
    answer = host.get("/page", headers=[("Origin", SHOP)])
    assert answer.header("Access-Control-Allow-Origin") == SHOP
    assert answer.header("Access-Control-Allow-Credentials") == "true"
    assert answer.header("Access-Control-Expose-Headers") == "X-Total"
    assert host.get("/nothing", headers=[("Origin", SHOP)]).header("Access-Control-Allow-Origin") == SHOP
    for origin in ("https://evil.example", "null", f"{SHOP}.evil.example", "https://shop.exampl"):
        answer = host.get("/page", headers=[("Origin", origin)])
        assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (200, None)
        assert answer.header("Vary") == "Origin"
    assert host.get("/page").header("Vary") == "Origin"
    answer = host.get("/page?field=Access-Control-Allow-Origin:theirs", headers=[("Origin", SHOP)])
    assert [value for name, value in answer.headers if name == "Access-Control-Allow-Origin"] == ["theirs"]


def test_cors_for_all(start):
    host = start("cors", origins="*")
    answer = host.get("/page", headers=[("Origin", "https://any.example")])
    assert (answer.header("Access-Control-Allow-Origin"), answer.header("Vary")) == ("*", None)


def test_cors_settings(start_weft, page):
    refused(start_weft, page, "cors", "the key 'origins' is missing")
    refused(start_weft, page, "cors", "browsers refuse that; list the origins", origins="*", credentials="on")


# ---- ratelimit ----

def test_rate_over_all_workers(start):
    host = start("ratelimit", server={"workers": 4}, rate=1, per=3600, burst=10)
    host.wait_log("serving: ")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: host.get("/page"), range(40)))
    assert sorted(answer.status for answer in found) == [200] * 10 + [429] * 30
    late = next(answer for answer in found if answer.status == 429)
    assert 1 <= int(late.header("Retry-After")) <= 3600
    assert late.json()["status"] == 429

    assert run_weft("reload", "-c", host.config).returncode == 0
    assert host.get("/page").status == 429   # the new workers have the old ones' counts


def test_rate_comes_back(start):
    host = start("ratelimit", rate=50, burst=1)
    with host.connect() as client:
        found = [client.ask("GET", "/page").status]
        while found.count(200) < 4:   # as time passes; bounded by the test's own limit
            found.append(client.ask("GET", "/page").status)
    assert found[0] == 200 and set(found) == {200, 429}


def test_rate_by_header(start):
    host = start("ratelimit", rate=1, per=3600, burst=2, header="X-Key", mount="/api")
    for key in ("one", "two", "", "x" * 500):
        statuses = [host.get("/api/page", headers=[("X-Key", key)]).status for _ in range(3)]
        assert statuses == [200, 200, 429], key
    assert [host.get("/api/page").status for _ in range(3)] == [200, 200, 429]   # by address
    assert [host.get("/page").status for _ in range(5)] == [200] * 5


def test_rate_of_many_clients(start):
    """More clients than places: those that were quiet make room, and who goes on and on stays limited."""
    host = start("ratelimit", rate=1, per=3600, burst=1, header="X-Key", clients=8)
    with host.connect() as client:
        assert client.ask("GET", "/page", headers=[("X-Key", "same")]).status == 200
        for i in range(6):
            assert client.ask("GET", "/page", headers=[("X-Key", f"k{i}")]).status == 200
        assert client.ask("GET", "/page", headers=[("X-Key", "same")]).status == 429
        for i in range(100):
            assert client.ask("GET", "/page", headers=[("X-Key", f"more {i}")]).status == 200


def test_rate_settings(start_weft, page):
    refused(start_weft, page, "ratelimit", "rate = 0: expected a whole number from 1 to 1000000", rate=0)
    refused(start_weft, page, "ratelimit", r"more than \[server\] shared_memory leaves", clients=2 ** 24)


# ---- basicauth ----

def hashes(tmp_path):
    """A file of users, all with the password "open sesame", in what this system's crypt(3) makes."""
    crypt = ctypes.CDLL("libcrypt.so.1")
    crypt.crypt.restype = crypt.crypt_gensalt.restype = ctypes.c_char_p
    lines = ["# who may"]
    for name, prefix in (("bcrypt", b"$2b$"), ("sha512", b"$6$"), ("yescrypt", b"$y$")):
        salt = crypt.crypt_gensalt(prefix, 4 if prefix == b"$2b$" else 1000 if prefix == b"$6$" else 1, None, 0)
        lines.append(f"{name}:{crypt.crypt(b'open sesame', salt).decode()}")
    file = tmp_path / "users"
    file.write_text("\n".join(lines) + ":a comment\n")
    return file


def basic(pair, scheme="Basic"):
    pair = pair.encode() if isinstance(pair, str) else pair
    return [("Authorization", f"{scheme} {base64.b64encode(pair).decode()}")]


def test_who_may(start, tmp_path):
    host = start("basicauth", mount="/api", users=hashes(tmp_path), realm="Vault")
    for name in ("bcrypt", "sha512", "yescrypt"):
        for scheme in ("Basic", "basic", "BASIC"):
            assert host.get("/api/page", headers=basic(f"{name}:open sesame", scheme)).status == 200
        for wrong in ("", "open", "open sesame ", "Open sesame"):
            assert host.get("/api/page", headers=basic(f"{name}:{wrong}")).status == 401
    answer = host.get("/api/page")
    assert answer.status == 401
    assert answer.header("WWW-Authenticate") == 'Basic realm="Vault", charset="UTF-8"'
    assert host.get("/api/nothing").status == 401
    assert host.get("/page").status == 200
    assert "sesame" not in host.log


@pytest.mark.parametrize("field", [
    "Basic", "Basic ", "Basic !!!!", "Basic YQ", "Bearer YTpi", "Basic " + "QUFB" * 400,
    basic("nobody:open sesame")[0][1], basic(":open sesame")[0][1], basic(b"bcrypt:open sesame\0x")[0][1],
    basic("bcrypt")[0][1], "Basic=" + base64.b64encode(b"bcrypt:open sesame").decode()])
def test_who_may_not(start, tmp_path, field):
    host = start("basicauth", users=hashes(tmp_path))
    assert host.get("/page", headers=[("Authorization", field)]).status == 401


def test_users_that_are_none(start_weft, page, tmp_path):
    file = tmp_path / "users"
    refused(start_weft, page, "basicauth", "the key 'users' is missing")
    refused(start_weft, page, "basicauth", "users = .*users: No such file", users=file)
    for text, reason in [("", "there is no user in it"), ("name\n", "line 1: expected NAME:HASH"),
                         ("# x\n\nname:plain\n", "line 3: the hash is none"), ("n:" + "x" * 2000, "line 1: the line")]:
        file.write_text(text)
        refused(start_weft, page, "basicauth", reason, users=file)
    file.write_text("a:$6$rounds=1000$x$x\n")
    refused(start_weft, page, "basicauth", "users = ", users=file)


# ---- compress ----

GZIP = [("Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1")]


@pytest.mark.parametrize("size", [1024, 1025, 65536, 300000])
@pytest.mark.parametrize("piece", ["", "&piece=1000", "&piece=70000"])
def test_gzip(start, size, piece):
    host = start("compress")
    with host.connect() as client:
        answer = client.ask("GET", f"/page?bytes={size}{piece}", headers=GZIP)
        assert answer.header("Content-Encoding") == "gzip"
        assert answer.header("Vary") == "Accept-Encoding"
        assert gzip.decompress(answer.body) == text_of(size)
        assert len(answer.body) < size
        assert (answer.header("Content-Length") is None) == (piece != "")
        plain = client.ask("GET", f"/page?bytes={size}{piece}")
        assert (plain.header("Content-Encoding"), plain.header("Vary")) == (None, "Accept-Encoding")
        assert plain.body == text_of(size)
        head = client.ask("HEAD", f"/page?bytes={size}", headers=GZIP)
        assert (head.header("Content-Encoding"), head.header("Content-Length")) == ("gzip", None)


def test_gzip_piece_by_piece(start):
    """What was written is there, though the answer goes on."""
    host = start("compress")
    with host.connect() as client:
        client.request("GET", "/page?bytes=4000&piece=1000", headers=GZIP)
        answer = client.read_answer()
    decoder, got = zlib.decompressobj(31), b""
    got = decoder.decompress(answer.body)
    assert got == text_of(4000) and decoder.eof


@pytest.mark.parametrize("query, encoding", [
    ("bytes=1023", None), ("bytes=2000000", None), ("type=image/png", None), ("type=text/html;%20charset=utf-8", "gzip"),
    ("type=APPLICATION/JSON", "gzip"), ("field=Content-Encoding:br", "br"), ("code=404", "gzip"),
    ("field=Cache-Control:private,%20no-transform", None), ("code=206&field=Content-Range:bytes%200-1/2", None),
    ("field=ETag:%22x%22", "gzip")])
def test_what_is_compressed(start, query, encoding):
    host = start("compress")
    answer = host.get(f"/page?{query}", headers=GZIP)
    assert answer.header("Content-Encoding") == encoding
    if "ETag" in query:
        assert [value for name, value in answer.headers if name == "ETag"] == ['W/"x"']


@pytest.mark.parametrize("accepted, encoding", [
    ("gzip", "gzip"), ("GZIP", "gzip"), ("gzip;q=0", None), ("identity", None), ("*", "gzip"), ("br", None), ("", None),
    ("identity;q=1, gzip;q=0.5", None), ("gzip;q=0.001", "gzip")])
def test_for_whom(start, accepted, encoding):
    host = start("compress")
    answer = host.get("/page", headers=[("Accept-Encoding", accepted)])
    assert answer.header("Content-Encoding") == encoding
    body = gzip.decompress(answer.body) if encoding else answer.body
    assert body == text_of(5000)


def test_files(start, tmp_path):
    """A small one is read, and compressed; a large one goes from the disk to the socket as it is."""
    host = start("compress")
    file = tmp_path / "file"
    for size, encoding in ((5000, "gzip"), (500000, None)):
        file.write_bytes(text_of(size))
        answer = host.get(f"/file?path={file}&bytes={size}", headers=GZIP)
        assert (answer.status, answer.header("Content-Encoding")) == (200, encoding)
        assert (gzip.decompress(answer.body) if encoding else answer.body) == text_of(size)
    assert "level=error" not in host.log


def test_all_four_together(start_weft, page, tmp_path):
    host = start_weft({"plugin.page": {"path": page}, "plugin.gzip": {"path": PLUGINS / "compress.so"},
                       "plugin.cors": {"path": PLUGINS / "cors.so", "origins": SHOP},
                       "plugin.limit": {"path": PLUGINS / "ratelimit.so", "rate": 1, "per": 3600, "burst": 3},
                       "plugin.auth": {"path": PLUGINS / "basicauth.so", "users": hashes(tmp_path)}})
    origin = ("Origin", SHOP)
    assert host.ask("OPTIONS", "/page", headers=[origin, *PREFLIGHT]).status == 204   # nobody asks who it is
    assert host.get("/page", headers=[origin]).status == 401
    good = basic("bcrypt:open sesame")
    answer = host.get("/page", headers=[origin, *GZIP, *good])
    assert (answer.status, answer.header("Content-Encoding")) == (200, "gzip")
    assert answer.header("Access-Control-Allow-Origin") == SHOP
    host.get("/page", headers=good)
    answer = host.get("/page", headers=[origin, *good])
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (429, SHOP)
