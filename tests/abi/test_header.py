"""Goal: the ABI's headers are good for every compiler and standard that they promise, a plugin exports one
symbol and wants none of the host's, the host exports none of the ABI's, and a plugin that was built by hand,
in C or C++, is served."""
import re
import shutil
import subprocess

import pytest

from support import place

INCLUDE = place.ROOT / "include"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
# The line of the README.
BY_HAND = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions", f"-I{INCLUDE}"]

# A plugin that uses what is in a macro, varargs or an overload; in C and in C++.
SOURCE = r"""
#include "weft.h"
#include "weft_json.h"
#include "weft_jansson.h"

static weft_pg *db;
static weft_stmt *statement;
static const weft_str unit = WEFT_S("kg");

static weft_status serve(weft_ctx *ctx, void *self)
{
    weft_op *found = weft_run(ctx, db, statement, WEFT_ARGS(weft_int(1), weft_text(unit)));
    weft_op *none = weft_run_sql(ctx, db, "select 1", WEFT_STMT_READ_ONLY, WEFT_NO_ARGS);
    weft_json json;
    json_t *value;

    (void)self;
    WEFT_TRY(weft_await(found));
    WEFT_TRY(weft_await(none));
    WEFT_TRY(weft_jansson_body(ctx, &value));
    weft_log(ctx, WEFT_LOG_INFO, "no arguments");
    weft_log(ctx, WEFT_LOG_INFO, "%s", weft_fmt(ctx, "%d", 1).ptr);
    weft_json_begin(&json, ctx);
    weft_json_double(&json, 1.5);
    if (weft_rows(found) == 0)
        return weft_explain(ctx, WEFT_E_NOT_FOUND, "nothing");
    return weft_json_reply(&json, 200);
}

static weft_status hello(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, "by hand\n");
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    (void)serve;
    (void)statement;
    return weft_route(host, "GET", "/by-hand", hello);
}

WEFT_PLUGIN("by_hand", "1.0", init, NULL, NULL);
"""


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **more)


def need(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")


def exported(path):
    """The symbols that a file exports, without those of sanitizers."""
    found = run("nm", "-D", "--defined-only", path)
    assert found.returncode == 0, found.stderr
    names = {line.split()[-1] for line in found.stdout.splitlines()}
    return {name for name in names if not re.match(r"__(asan|odr_asan|ubsan|start|stop)", name)}


def wanted(path):
    """The symbols that a file takes from others."""
    found = run("nm", "-D", "--undefined-only", path)
    assert found.returncode == 0, found.stderr
    return {line.split()[-1].split("@")[0] for line in found.stdout.splitlines()}


def build_by_hand(folder, compiler, name, *options):
    source = folder / f"by_hand.{'cc' if '++' in compiler else 'c'}"
    source.write_text(SOURCE)
    made = folder / f"{name}.so"
    found = run(compiler, *BY_HAND, *options, source, "-o", made, "-ljansson", cwd=folder)
    assert found.returncode == 0, found.stderr
    return made


@pytest.mark.parametrize("compiler, language, standard", [
    *[(cc, "c", std) for cc in ("gcc", "clang") for std in ("c99", "c11", "c17")],
    *[(cc, "c++", std) for cc in ("g++", "clang++") for std in ("c++11", "c++17", "c++20")],
])
def test_compiles(tmp_path, compiler, language, standard):
    need(compiler)
    source = tmp_path / "all.source"
    source.write_text(SOURCE)
    found = run(compiler, "-x", language, f"-std={standard}", *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("header", ["weft.h", "weft_json.h", "weft_jansson.h"])
def test_each_header_stands_alone(tmp_path, header):
    source = tmp_path / "one.c"
    source.write_text(f'#include "{header}"\nWEFT_PLUGIN("x", "1", NULL, NULL, NULL);\n')
    found = run("gcc", "-std=c99", *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source)
    assert found.returncode == 0, found.stderr


def test_each_function_is_documented_with_its_thread():
    """A comment before it, which ends with its thread: [init], [loop] or [any]."""
    text = (INCLUDE / "weft.h").read_text() + (INCLUDE / "weft_json.h").read_text() \
        + (INCLUDE / "weft_jansson.h").read_text()
    functions = list(re.finditer(r"^(?:static )?inline [^;{]*?\b(weft_\w+)\(", text, re.MULTILINE))
    public = [match for match in functions if "__" not in match.group(1)]
    assert len(public) > 80
    for match in public:
        before = re.sub(r"WEFT_PRINTF\(\d, \d\)\n$", "", text[:match.start()])
        if match.group(1) == "weft_run_sql" and before.endswith("}\n"):
            continue   # documented with the overload above it
        assert re.search(r"\[(init|loop|any)\]\s*\*/\n$", before), match.group(1)


def test_plugins_export_one_symbol():
    plugins = sorted((place.BUILD / "plugins").glob("*.so"))
    assert {plugin.stem for plugin in plugins} >= {"hello", "books", "books_then", "thirdparty", "bench"}
    for plugin in plugins:
        assert exported(plugin) == {"weft_plugin_1"}, plugin
        assert not [name for name in wanted(plugin) if name.startswith("weft")], plugin


def test_host_exports_nothing_of_the_abi():
    assert not [name for name in exported(place.BUILD / "weft") if name.startswith("weft")]


@pytest.mark.parametrize("compiler, options", [
    ("cc", []), ("clang", []), ("g++", ["-fno-gnu-unique"]), ("clang++", [])])
def test_one_built_by_hand_is_served(tmp_path, start_weft, compiler, options):
    need(compiler)
    made = build_by_hand(tmp_path, compiler, "by_hand", "-O2", *options)
    assert exported(made) == {"weft_plugin_1"}
    host = start_weft({"plugin.by_hand": {"path": made}})
    assert host.get("/by-hand").body == b"by hand\n"
