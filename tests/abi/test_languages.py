"""Goal: plugins in other languages run the four flows: in C++20 with include/weft.hpp, where no exception gets
into the host and no coroutine's frame is lost, and in Rust over the tables alone."""
import importlib.util
import re
import shutil
import subprocess
import time

import pytest

from support import place
from support.client import Closed
from support.peer import fixed

pytestmark = pytest.mark.limit(150)   # compilers take their time on a busy machine

PLUGINS = place.ROOT / "tests" / "plugins"
INCLUDE = place.ROOT / "include"
SHARED = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions", f"-I{INCLUDE}"]
# The host that is tested has no C++ library, and its sanitizer wants none that comes later.
CPP = ["-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", *SHARED,
       "-static-libstdc++", f"-Wl,--version-script={place.ROOT / 'cmake/plugin.map'}"]


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def flows():
    """The requests of the demo for a library, with what their answers must be: see tests/tools/demo_check.py."""
    spec = importlib.util.spec_from_file_location("demo_check", place.TOOLS / "demo_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def thirdparty(peer):
    peer.on("GET", "/quote", fixed(body=b'{"text": "a quote", "author": "somebody"}'))
    peer.on("GET", "/book", fixed(body=b'{"title": "a title", "author": "an author"}'))
    peer.on("POST", "/upload", lambda exchange: exchange.answer(202, exchange.request.body + b" came ", framing="chunked"))
    peer.on("POST", "/announcements", lambda exchange: exchange.answer(
        body=b'{"announced": %s}' % exchange.request.body))
    return peer


def serve(start_weft, books, thirdparty, made, wait=True, **more):
    assert "weft_plugin_1" in run("nm", "-D", "--defined-only", made)
    return start_weft({"pg.main": books.settings, "upstream.thirdparty": {"url": thirdparty.url},
                       "plugin.library": {"path": made, "mount": "/other", **more}}, wait=wait)


def run_flows(host, thirdparty):
    check = flows()
    for method, path, body, status, wanted in check.library("/other"):
        found, fault = check.verdict(f"127.0.0.1:{host.port}", method, path, body, status, wanted)
        assert fault is None, f"{method} {path}: {found}, expected {fault}"
    announced = [request for request in thirdparty.requests if request.target == "/announcements"]
    assert announced[0].json()["id"] == 1
    assert host.get("/other/summary").json()["quote"]["text"] == "a quote"


@pytest.fixture(params=["g++", "clang++"])
def cpp(request, tmp_path):
    """tests/plugins/books.cc, compiled."""
    need(request.param)
    common, made = tmp_path / "common.o", tmp_path / "books_cpp.so"
    run("cc", "-c", "-fPIC", "-fvisibility=hidden", f"-I{INCLUDE}", place.ROOT / "plugins/books/common.c", "-o", common)
    unique = ["-fno-gnu-unique"] if request.param == "g++" else []
    run(request.param, *CPP, *unique, PLUGINS / "books.cc", common, "-o", made, "-ljansson")
    exported = run("nm", "-D", "--defined-only", made).splitlines()
    assert [line.split()[-1] for line in exported] == ["weft_plugin_1"]
    return made


def test_cpp(cpp, start_weft, books, thirdparty):
    host = serve(start_weft, books, thirdparty, cpp)
    run_flows(host, thirdparty)
    check_exceptions(host)
    check_several(host)
    check_a_filter(host)
    check_transactions(host)
    check_ends(host)
    host.stop()
    misused = set(re.findall(r"weft_(\w+)\(\): ", host.log))   # what check_exceptions() makes it do, and no more
    assert misused == {"then"}, host.log
    for fail, line in [("throw", r"an exception in init\(\): thrown by init"), ("fail", r"its init\(\) returned -103")]:
        refused = serve(start_weft, books, thirdparty, cpp, fail=fail, wait=False)
        refused.wait()
        refused.stop(code=1)
        refused.wait_log(line)


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("standard", ["c++20", "c++2b"])
def test_cpp_header_stands_alone(tmp_path, compiler, standard):
    need(compiler)
    source = tmp_path / "one.cc"
    source.write_text('#include "weft.hpp"\nWEFT_PLUGIN("x", "1", nullptr, nullptr, nullptr);\n')
    run(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror",
        "-fsyntax-only", f"-I{INCLUDE}", source)


def check_exceptions(host):
    assert host.get("/other/throw-late").status == 500
    host.wait_log('an exception: late".*route="GET /other/throw-late"')
    assert host.get("/other/throw-at-once").status == 500
    host.wait_log("an exception: of no known type")
    assert host.get("/other/throw-after-reply").body == b"replied"
    host.wait_log("an exception: too late")
    assert host.get("/other/catch").body == b"canceled -201 -102"


def check_several(host):
    """Spawned coroutines, hedges, work on threads, posts, and pulls of a body."""
    assert host.get("/other/spawn").body == b"22 -201 -503 -102 -502 -201 -101 3"
    host.wait_log(r'an exception in a weft::spawn\(\): spawned".*route="GET /other/spawn"')
    assert host.get("/other/hedge").body == b"1 -503"
    host.wait_log("an exception in the second of a hedge: hedge")
    assert host.get("/other/offload").body == b"30000 -102 -504 -102"
    host.wait_log(r'an exception in a weft::offload\(\): offloaded" plugin=library')
    assert host.get("/other/post").body == b"7"
    assert host.post("/other/echo", b"x" * 300000).body == b"x" * 300000


def check_a_filter(host):
    """A coroutine that is asked whether a request may go on has the time to say no."""
    assert host.get("/other/guarded", headers=[("X-Key", "1")]).body == b"let in"
    for why, status in [("replied", 401), ("failed", 404), ("thrown", 500)]:
        assert host.get(f"/other/guarded?why={why}").status == status
    host.wait_log(r"an exception in a filter's before\(\): guarded")
    assert host.get("/other/guarded?how=loud", headers=[("X-Key", "1")]).body == b"LET IN"
    with pytest.raises(Closed):
        host.get("/other/guarded?how=thrown", headers=[("X-Key", "1")])
    host.wait_log(r"an exception in a weft::transform\(\): changed")


def check_transactions(host):
    for why, status in [("failed", 404), ("thrown", 500)]:
        assert host.get(f"/other/transact?why={why}").status == status
    host.wait_log("an exception: transacted")
    assert host.get("/other/transact?why=again").body == b"3"
    lost = host.get("/other/lose")
    assert lost.status == 500 and "retry-after" not in {name.lower() for name, _ in lost.headers}
    assert host.get("/other/lose?caught").body == b"1 -303"
    assert host.get("/other/lose?how=statement").status == 503
    assert host.get("/other/lose?how=statement&caught").body == b"0 -302"
    assert len(host.get("/other/books").json()) > 9


def check_ends(host):
    assert host.get("/other/too-long").status == 504
    assert host.get("/other/left-behind").body == b"left"
    assert len(host.get("/other/transaction").json()) > 9
    assert host.get("/other/stream").body == b"200010000"
    assert host.post("/other/copy").body == b"copied\n"
    assert host.get("/other/upload").body == b'012 came {"text": "a quote", "author": "somebody"}'
    assert host.get("/other/news").body == b"a new one"
    end = time.monotonic() + 10
    while host.get("/other/alive").body != b"0":
        assert time.monotonic() < end, "objects of a frame are lost"


def test_cpp_header_is_documented():
    """Each function and class for others has a comment before it, a function's ends with its thread."""
    text = (INCLUDE / "weft.hpp").read_text()
    public = re.sub(r"namespace detail\n\{.*?\} /\* namespace detail \*/", "", text, flags=re.DOTALL)
    kinds = r"^(?:template <.*>[ \n])?(inline|weft_status|weft_op \*|auto |Value &|class|struct)"
    found = list(re.finditer(kinds, public, re.MULTILINE))
    assert len(found) > 20
    for match in found:
        before, line = public[:match.start()], public[match.start():].split("\n", 1)[0]
        if line.endswith("class task;"):
            continue
        end = r"\*/\n$" if match.group(1) in ("class", "struct") else r"\[(loop|any)\]\s*\*/\n$"
        assert re.search(end, before), line


def test_cpp_with_cmake(tmp_path):
    need("g++")
    (tmp_path / "it.cc").write_text(
        '#include "weft.hpp"\n#include <string>\n'
        "static weft::task<> it(weft_ctx *ctx, void *)\n{\n    std::string text(100, 'x');\n    text += \"y\";\n"
        "    co_await weft_sleep(ctx, 1);\n    weft::check(weft_reply(ctx, 200, nullptr, weft::str(text)));\n}\n"
        'static void init(weft_host *host, void **)\n{\n'
        '    weft::check(weft_route(host, "GET", "/it", weft::handler<it>));\n}\n'
        'WEFT_PLUGIN("it", "1", weft::init<init>, nullptr, nullptr);\n')
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(it CXX)\nset(CMAKE_CXX_STANDARD 20)\n"
        f"include({place.ROOT}/cmake/WeftPlugin.cmake)\nweft_plugin(it it.cc)\n")
    run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "out")
    run("cmake", "--build", tmp_path / "out")
    exported = run("nm", "-D", "--defined-only", tmp_path / "out/plugins/it.so").splitlines()
    assert [line.split()[-1] for line in exported] == ["weft_plugin_1"]


def test_rust(tmp_path, start_weft, books, thirdparty):
    need("cargo")
    crate = shutil.copytree(PLUGINS / "books_rust", tmp_path / "books_rust")   # cargo writes beside its sources
    run("cargo", "build", "--offline", "--quiet", "--target-dir", tmp_path / "made", cwd=crate)
    made = tmp_path / "made" / "debug" / "libbooks_rust.so"
    exported = run("nm", "-D", "--defined-only", made).splitlines()
    assert [line.split()[-1] for line in exported] == ["weft_plugin_1"]
    host = serve(start_weft, books, thirdparty, made)
    run_flows(host, thirdparty)
    assert host.get("/other/panic").status == 500
    host.wait_log('"a panic".*route="GET /other/panic"')
    thirdparty.on("GET", "/quote", fixed(status=404))
    assert host.get("/other/quote").status == 502
