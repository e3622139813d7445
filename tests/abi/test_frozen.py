"""Goal: what a released header has stays: the current one has every word, number and type of the frozen copy,
changes are found, and a plugin compiled against the copy gets the answers that it got when it was written."""
import re
import shutil
import subprocess

import freeze
import pytest

from support import place
from support.peer import fixed

PLUGIN = place.BUILD / "tests" / "plugins" / "golden.so"
HELP = "see «The ABI» in CONTRIBUTING.md, and tests/abi/freeze.py"
# Between two plugins' worth of types: everything that crosses, exported so that debug information has it.
TYPES = '#include "weft.h"\nWEFT_PLUGIN("types", "1", NULL, NULL, NULL);\n' + "".join(
    f"const {name} *types_{name} __attribute__((visibility(\"default\")));\n"
    for name in ("weft_api", "weft_call", "weft_route_options", "weft_reply_options", "weft_filter_options", "weft_file",
                  "weft_value", "weft_field"))


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def compile_asserts(folder, compiler="gcc"):
    return run(compiler, "-std=c11", "-fsyntax-only", f"-I{folder}", freeze.FROZEN / "asserts.c")


def is_draft():
    return "(draft)" in (freeze.CURRENT / "weft.h").read_text().splitlines()[0]


def test_nothing_frozen_is_lost():
    place_of_change = freeze.lost(freeze.words(freeze.FROZEN), freeze.words(freeze.CURRENT))
    assert place_of_change is None, f"changed in include/: ... {place_of_change} ...: {HELP}"


def test_what_a_draft_appends_is_frozen():
    if is_draft():
        missing = freeze.lost(freeze.words(freeze.CURRENT), freeze.words(freeze.FROZEN))
        assert missing is None, f"not in tests/abi/1.0: ... {missing} ...: {HELP}"


def test_asserts_are_of_the_frozen_headers():
    assert (freeze.FROZEN / "asserts.c").read_text() == freeze.generate(freeze.FROZEN), HELP


def test_asserts_miss_nothing():
    text = (freeze.FROZEN / "asserts.c").read_text()
    headers = freeze.without_comments(freeze.text_of(freeze.FROZEN))
    for name in re.findall(r"\b(weft_[a-z0-9_]*[a-z0-9])\(\w[^)]*\)\s*\{", headers):
        assert "__" in name or f"SAME({name}, " in text, name
    for name in re.findall(r"\bstruct (weft_\w+) \{", headers):
        assert f"(sizeof({name}), " in text, name
    for name in re.findall(r"#define (WEFT_(?:E|STMT|TX|CALL|ROUTE|CHILD|PG)_\w+)[ \t]+\S", headers):
        assert f"IS({name}, " in text, name
    assert text.count("\n") > 480


def test_options_have_no_padding():
    """No initializer need clear it: a newer plugin's would reach an older host as something that it does not know, and
    that is not zero."""
    structs = freeze.structs(freeze.without_comments(freeze.text_of(freeze.CURRENT)))
    growing = {name: [part for part, _ in members] for name, members in structs if members[0][0] == "size"}
    assert len(growing) > 8 and "weft_route_options" in growing
    sums = {name: "+".join(f"sizeof((({name} *)0)->{part})" for part in parts) for name, parts in growing.items()}
    wanted = [(name, f"(long)sizeof({name}) - (long)({total})") for name, total in sums.items()]
    found = freeze.evaluate(freeze.CURRENT, [what for _, what in wanted])
    padded = [name for (name, _), (_, count) in zip(wanted, found) if int(count) != 0]
    assert padded == [], "put a uint32_t before what was appended"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_asserts_hold(compiler):
    need(compiler)
    found = compile_asserts(freeze.CURRENT, compiler)
    assert found.returncode == 0, f"{HELP}\n{found.stderr}"


@pytest.mark.parametrize("before, after", [
    ("weft_status (*end)(weft_ctx *child);", "weft_status (*end)(weft_ctx *child, uint32_t);"),
    ("    void (*cancel)(weft_ctx *);", "    void (*more)(weft_ctx *);\n    void (*cancel)(weft_ctx *);"),
    ("    uint32_t timeout_ms;     /*", "    uint64_t timeout_ms;     /*"),
    ("    WEFT_V_BOOL,", "    WEFT_V_UUID,\n    WEFT_V_BOOL,"),
    ("#define WEFT_E_DB_DOWN       (-302)", "#define WEFT_E_DB_DOWN       (-399)"),
    ("static inline uint32_t weft_why(weft_ctx *ctx)", "static inline int32_t weft_why(weft_ctx *ctx)"),
    ("typedef weft_status weft_handler(weft_ctx *ctx, void *self);",
     "typedef weft_status weft_handler(weft_ctx *ctx, const void *self);"),
])
def test_a_change_is_found(tmp_path, before, after):
    changed = changed_headers(tmp_path, before, after)
    assert compile_asserts(changed).returncode != 0


def test_a_removed_macro_is_found(tmp_path):
    changed = changed_headers(tmp_path, "#define WEFT_NO_ARGS 0u, NULL\n", "")
    assert "WEFT_NO_ARGS" in freeze.lost(freeze.words(freeze.FROZEN), freeze.words(changed))


def test_what_is_appended_is_none(tmp_path):
    changed = changed_headers(tmp_path, "} weft_call_api;", "    uint32_t (*more)(weft_op *);\n} weft_call_api;")
    assert freeze.lost(freeze.words(freeze.FROZEN), freeze.words(changed)) is None
    found = compile_asserts(changed)
    assert found.returncode == 0, found.stderr


def changed_headers(folder, before, after):
    count = 0
    for name in freeze.HEADERS:
        text = (freeze.FROZEN / name).read_text()
        count += text.count(before)
        (folder / name).write_text(text.replace(before, after))
    assert count == 1, before
    return folder


def test_abidiff_finds_no_incompatible_change(tmp_path, capsys):
    need("abidiff")
    (tmp_path / "types.c").write_text(TYPES)
    for name, folder in [("frozen", freeze.FROZEN), ("current", freeze.CURRENT)]:
        made = run("gcc", "-g", "-shared", "-fPIC", f"-I{folder}", tmp_path / "types.c", "-o", tmp_path / f"{name}.so")
        assert made.returncode == 0, made.stderr
    found = run("abidiff", tmp_path / "frozen.so", tmp_path / "current.so")
    with capsys.disabled():
        print(f"\nabidiff of the ABI 1.0 and include/: exit {found.returncode}\n"
              f"{found.stdout.strip() or 'no difference'}")
    assert found.returncode & ~4 == 0, found.stdout + found.stderr   # 4: a change that breaks nothing


def test_the_golden_plugin_calls_every_function():
    called = (freeze.FROZEN / "golden.c").read_text()
    for name, _ in freeze.functions(freeze.text_of(freeze.FROZEN)):
        if "__" not in name and name not in ("weft_handler", "weft_then_fn", "weft_cleanup_fn", "weft_work_fn",
                                              "weft_tx_fn", "weft_transform_fn"):
            assert f"{name}(" in called, name


# Method and target, status, body: what 1.0 answered.
SCRIPT = [
    ("GET", "/golden/request/a%20b?q=1", 201, "GET /golden/request/a%20b a b 1 yes 127.0.0.1 [/golden] hello 42 1 1 q=1 Host"),
    ("POST", "/golden/echo", 200, '{"a": 1}{"a": 1}.'),
    ("POST", "/golden/echo?refused", 403, "refused"),
    ("GET", "/golden/redirect", 303, ""),
    ("GET", "/golden/problem", 418, None),
    ("GET", "/golden/explain", 404, None),
    ("GET", "/golden/log", 200, None),
    ("GET", "/golden/scopes", 200, "1 4 -201 -102 1 0"),
    ("GET", "/golden/ops", 200, "1 -201 -503 0 0 1 1"),
    ("GET", "/golden/races", 200, "-503 1 0 1"),
    ("GET", "/golden/post", 200, "ran"),
    ("GET", "/golden/work", 200, "-503"),
    ("GET", "/golden/pieces", 200, "absent"),
    ("POST", "/golden/upload", 200, "8 0 1"),
    ("GET", "/golden/export", 200, "2 of pieces"),
    ("GET", "/golden/export?length", 200, "2 of pieces"),
    ("GET", "/golden/file", 200, "is a part"),
    ("GET", "/golden/values", 200, '1 7 1 3 t hello -7 1 5 \\x00ff 1 '
     '{"i":-7,"t":"hello","b":true,"d":0.5,"x":"\\\\x00ff","j":[1],"n":null}'),
    ("GET", "/golden/more-values", 200, '1000001 xyz 2 -4 3 a,b 1 "'),
    ("GET", "/golden/more-values?binary", 200, '1000001 xyz 2 -4 3 a,b 1 "'),
    ("GET", "/golden/names", 404, None),
    ("POST", "/golden/names", 200, "1 -304 23505 0 1"),
    ("GET", "/golden/names", 200, '[{"name":"golden"}]'),
    ("GET", "/golden/names?first", 200, '{"name":"golden"}'),
    ("POST", "/golden/turns", 200, "2 -304 0"),
    ("GET", "/golden/calls", 200, "418 theirs a body 17, 200 got, 200 {}"),
    ("GET", "/golden/streams", 200, '1 [{"n":1},{"n":2},{"n":3}] -102'),
    ("GET", "/golden/copies", 200, "0 1 copied\n"),
    ("GET", "/golden/bodies", 200, "1 -102 got a body 42 200 Content-Type theirs X-Theirs"),
    ("GET", "/golden/more-calls", 200, "/get?a%20b=%C3%A4%26c&d=~ 1 1 0 1"),
    ("POST", "/golden/through", 418, '{"a": 1} none'),
    ("GET", "/golden/news", 200, "heard"),
    ("GET", "/golden/turns", 200, "started"),
]


def test_the_golden_plugin_gets_what_it_got(start_weft, database, peer):
    database.cluster.run("set role weft; create table names (name text primary key)", database=database.name)
    peer.on("PUT", "/put", lambda exchange: exchange.answer(
        418, f"{exchange.request.body.decode()} {exchange.request.headers.get('x-golden', 'none')}",
        {"X-Theirs": "theirs"}))
    peer.on("PUT", "/bodies", lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngot \r\n6\r\n" +
        exchange.request.body + b"\r\n3\r\n " + exchange.request.trailers["x-sum"].encode() +
        b"\r\n0\r\nX-Theirs: theirs\r\n\r\n"))
    peer.on("GET", "/get", fixed(body="got"))
    peer.on("POST", "/post", lambda exchange: exchange.answer(body=exchange.request.body))
    host = start_weft({"pg.main": database.settings, "upstream.partner": {"url": peer.url},
                       "plugin.golden": {"path": PLUGIN, "mount": "/golden", "greeting": "hello", "number": 42,
                                         "flag": "on"}})
    for method, target, status, body in SCRIPT:
        answer = host.ask(method, target, headers=[("X-Golden", "yes")],
                          body=b'{"a": 1}' if method == "POST" else None)
        assert (answer.status, body or "") == (status, answer.body.decode() if body is not None else ""), target
    host.wait_log(r'golden says 17.* plugin=golden')
    host.stop()
    assert "golden ends 1" in host.log
