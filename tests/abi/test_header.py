"""Goal: the ABI's headers are good for every compiler and standard that they promise, a plugin exports one
symbol and wants none of the host's, the host exports nothing, and a plugin that was built by hand,
in C or C++, is served; all of the ABI is documented."""
import re
import shutil
import subprocess

import freeze
import pytest
from entries import functions_of

from support import place

INCLUDE = place.ROOT / "include"
HEADERS = ["weft.h", "weft_json.h", "weft_jansson.h", "weft_multipart.h", "weft_sse.h", "weft_web.h"]
# More than is promised: what plugins may be compiled with.
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wcast-qual", "-Wundef",
            "-Wdouble-promotion", "-Wformat=2", "-Werror"]
# The line of the README.
BY_HAND = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions", f"-I{INCLUDE}"]

# A plugin that uses what is in a macro, varargs or an overload; in C and in C++.
SOURCE = r"""
#include "weft.h"
#include "weft_json.h"
#include "weft_jansson.h"
#include "weft_web.h"
#include "weft_multipart.h"
#include "weft_sse.h"

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
    if (weft_sse_last_id(ctx).ptr != NULL) {
        WEFT_TRY(weft_sse_begin(ctx));
        WEFT_TRY(weft_await(weft_sse_send(ctx, "kind", unit, unit)));
    }
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
    *[(cc, "c++", std) for cc in ("g++", "clang++") for std in ("c++11", "c++14", "c++17", "c++20")],
])
def test_compiles(tmp_path, compiler, language, standard):
    need(compiler)
    source = tmp_path / "all.source"
    source.write_text(SOURCE)
    found = run(compiler, "-x", language, f"-std={standard}", *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_each_header_stands_alone(tmp_path, header):
    source = tmp_path / "one.c"
    source.write_text(f'#include "{header}"\nWEFT_PLUGIN("x", "1", NULL, NULL, NULL);\n')
    found = run("gcc", "-std=c99", *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source)
    assert found.returncode == 0, found.stderr


CHAPTERS = [name for name in freeze.HEADERS if name not in HEADERS]
FUNCTIONS = [function for name in HEADERS + CHAPTERS for function in functions_of(name)]


def test_the_functions_are_found():
    counted = sum(len(re.findall(r"\bstatic inline [^;{]*?\bweft_(?!json__|jansson__|multipart__|saved__|sse__|web__|_)\w+\(",
                                 (INCLUDE / name).read_text())) for name in HEADERS + CHAPTERS)
    assert len(FUNCTIONS) == counted > 90


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_each_function_is_documented(function):
    """Thread, errors, units, what is not there, and since when; the rules for all stand at the header's top."""
    assert re.search(r"\[(init|loop|any)\]$", function.comment), "the comment ends with no thread"
    assert len(function.comment) > 10
    if function.result in ("weft_status", "weft_op *"):   # an op's, when it settles
        assert re.search(r"WEFT_E_|weft_reply_json\(|[Tt]he same|status|[Ee]rrors? ", function.told), "its errors"
    if re.search(r"\buint32_t ms\b", function.parameters):
        assert "`ms`" in function.comment, "what the milliseconds are"
    if function.result == "weft_str":
        assert re.search(r'bsent|empty|\bnull|""', function.told), "when it is absent or empty"
    if function.result.endswith("*") and function.result != "weft_op *":   # starting an op never fails
        assert "NULL" in function.comment, "when it is NULL"


def test_what_is_newer_says_since_when():
    frozen = {name for name, _ in freeze.functions(freeze.text_of(freeze.FROZEN))}
    for function in [function for name in freeze.HEADERS for function in functions_of(name)]:
        since = re.search(r"Since 1\.([1-9]\d*)\. ", function.comment)
        assert (since is None) == (function.name in frozen), function.name


def test_each_member_constant_and_type_is_documented():
    """Behind it on its line, in a comment before it, or in one before those that it stands with."""
    for name in [*HEADERS, *CHAPTERS, "weft_test.h"]:
        text = (INCLUDE / name).read_text()
        for struct, body in re.findall(r"\bstruct (weft_\w+) \{\n(.*?)\n\}(?: \1)?;", text, re.DOTALL):
            body = re.sub(r"/\*.*?\*/", "@", body, flags=re.DOTALL)
            lines = re.sub(r"union \{.*?\}", "union", body, flags=re.DOTALL).split(";")
            for line, behind in zip(lines, lines[1:]):
                assert "\n    @" in line or behind.lstrip(" ").startswith("@"), f"{struct}: {line}"
        blocks = re.split(r"\n\n", text)
        for block in blocks:
            if re.search(r"^(#define WEFT_[A-Z](?!\w*__)(?!\w+_H$)|enum \{|typedef )", block, re.MULTILINE):
                assert "/*" in block or block.startswith("#define WEFT_NO_ARGS"), block


# What is a macro, a template or an overload in the test kit.
KIT = r"""
#include "weft_test.h"

int main(void)
{
    weft_test *t = weft_test_start("key = value\n");
    weft_test_step *step = weft_test_query(t, "one", WEFT_ARGS(weft_int(1), weft_text(weft_cstr("a"))));

    weft_test_columns(step, "a int, b");
    weft_test_row(step, "1", (const char *)NULL);
    weft_test_query(t, "two", WEFT_NO_ARGS);
    weft_test_query(t, "three", WEFT_TEST_ANY_ARGS);
    weft_test_fault(weft_test_call(t, "up", "GET", "/"), WEFT_TEST_LOST);
    weft_test_is(weft_test_get(t, "/"), 200, NULL);
    return weft_test_end(t);
}
"""


@pytest.mark.parametrize("compiler, language, standard", [
    *[(cc, "c", std) for cc in ("gcc", "clang") for std in ("c99", "c17")],
    *[(cc, "c++", std) for cc in ("g++", "clang++") for std in ("c++11", "c++20")],
])
def test_the_kit_compiles(tmp_path, compiler, language, standard):
    need(compiler)
    source = tmp_path / "kit.source"
    source.write_text(KIT)
    found = run(compiler, "-x", language, f"-std={standard}", *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source)
    assert found.returncode == 0, found.stderr


def kit_functions():
    """Each function of weft_test.h that is no overload for C++: its name, and the comment before it."""
    text = (INCLUDE / "weft_test.h").read_text().split("} /* extern")[0]
    return re.findall(r"/\*((?:(?!\*/).)*)\*/\n(?:WEFT_TEST_API|static inline) [^;{]*?\b(weft_test_\w+)\(", text, re.DOTALL)


def test_the_kit_is_documented_and_exports_just_that():
    functions = {name: " ".join(comment.split()) for comment, name in kit_functions()}
    library = place.BUILD / "libweft_test.so"
    text = (INCLUDE / "weft_test.h").read_text()
    assert exported(library) == set(re.findall(r"WEFT_TEST_API [^;{#]*?\b(weft_test_\w+)\(", text)) > {"weft_test_end"}
    assert exported(library) <= set(functions)
    assert all(len(comment) > 10 for comment in functions.values()), functions


def test_the_kit_needs_no_database_and_no_network():
    """In place of libpq and c-ares it has functions of its own: one that is missing would be theirs."""
    needed = run("readelf", "-d", place.BUILD / "libweft_test.so").stdout
    assert "libc.so" in needed
    assert not re.search(r"lib(pq|cares|ssl|crypto|z)\.so", needed), needed


# What the samples take from the plugin around them.
AROUND = r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "%s"
static void use(weft_str bytes) { (void)bytes; }
static void read_all_anew(void) {}
static int is_known(weft_str who) { return who.len > 3; }
static weft_status store(weft_ctx *ctx, weft_str bytes) { return weft_defer(ctx, NULL, (void *)(uintptr_t)bytes.len); }
static int next_line(weft_ctx *ctx, weft_str *line) { *line = weft_body(ctx); return line->len > 0; }
#ifdef WEFT_MULTIPART_H
static const char *path_for(weft_ctx *ctx, const weft_part *part) { return weft_dup(ctx, part->name).ptr; }
#endif
static const weft_str id = WEFT_S("17"), data = WEFT_S("new"), sheet = WEFT_S("p {}");
#ifdef WEFT_JSON_H
static const weft_str title = WEFT_S("Emma");
#endif
"""
BEHIND = "{\n(void)ctx; (void)host; (void)db; (void)all_books; (void)partner; (void)call;\n%s\nreturn WEFT_OK;\n}\n"
SAMPLES = {"weft_http.h": 2, "weft_filter.h": 2, "weft_pg.h": 5, "weft_call.h": 1, "weft_sse.h": 1, "weft_multipart.h": 1,
           "weft_json.h": 1, "weft_web.h": 1, "weft_test.h": 1}


def samples_of(name):
    """The pieces of C in a header's comments, indented there; what stands beside a line is no part of it."""
    for comment in re.findall(r"/\*(?:(?!\*/).)*\*/", (INCLUDE / name).read_text(), re.DOTALL):
        lines = [line[2:] if re.match(r" \*(   .*)?$", line) else "@" for line in comment.splitlines()]
        lines = [re.sub(r"(?<=[;)])   +.*", "", line) for line in lines]
        text = "\n".join(line for line in lines if not line.lstrip().startswith("..."))
        for block in re.split(r"^@$|\n\n(?=     ?\S)", text, flags=re.MULTILINE):
            if re.search(r"^ .*\bweft_\w+\(.*;$", block, re.MULTILINE):
                yield block


@pytest.mark.parametrize("header", SAMPLES)
def test_samples_compile(tmp_path, header):
    samples = list(samples_of(header))
    assert len(samples) == SAMPLES[header], samples
    text = AROUND % (header if header not in freeze.HEADERS else "weft.h")
    for number, sample in enumerate(samples):
        if sample.lstrip().startswith("static "):
            text += sample + "\n"
            continue
        result = "int" if header == "weft_test.h" else "weft_status"
        text += f"{result} sample_{number}(weft_ctx *ctx, weft_host *host, weft_pg *db, weft_stmt *all_books, " \
                f"weft_upstream *partner, weft_call call)\n" + BEHIND % sample
    for compiler, suffix in (("gcc", "c"), ("g++", "cc")):
        source = tmp_path / f"samples.{suffix}"
        source.write_text(text)
        found = run(compiler, *WARNINGS, "-Wno-unused", "-Wno-unused-parameter", "-fsyntax-only", f"-I{INCLUDE}", source)
        assert found.returncode == 0, found.stderr


def test_plugins_export_one_symbol():
    plugins = [*(place.BUILD / "plugins").glob("*.so"), place.BUILD / "tests/plugins/golden.so"]
    assert {plugin.stem for plugin in plugins} >= {"hello", "books", "books_then", "thirdparty", "bench"}
    for plugin in plugins:
        assert exported(plugin) == {"weft_plugin_1"}, plugin
        assert not [name for name in wanted(plugin) if name.startswith("weft")], plugin


def test_host_exports_nothing():
    """But for the C library's own variables, which a program holds in its place."""
    assert not [name for name in exported(place.BUILD / "weft") if "@" not in name]


def test_no_line_is_too_long():
    """clang-format leaves comments as they are."""
    for header in sorted(INCLUDE.iterdir()):
        long = [line for line in header.read_text().splitlines() if len(line) > 100]
        assert header.suffix not in (".h", ".hpp") or not long, f"{header.name}: {long}"


def test_the_plugin_in_the_header_is_served(tmp_path, start_weft):
    """The manual's first page shows one that is whole."""
    page = (INCLUDE / "weft.h").read_text().split("*/")[0]
    lines = [line[7:] for line in page.splitlines() if re.match(r" \*(     \S|         \S|$)", line)]
    source = tmp_path / "greet.c"
    source.write_text("\n".join(lines).split("Threads:")[0].strip() + "\n")
    made = tmp_path / "greet.so"
    found = run("cc", *BY_HAND, "-Wall", "-Wextra", "-Werror", source, "-o", made)
    assert found.returncode == 0, found.stderr
    assert start_weft({"plugin.greet": {"path": made}}).get("/greet").body == b"Hello!"


@pytest.mark.parametrize("compiler, options", [
    ("cc", []), ("clang", []), ("g++", ["-fno-gnu-unique"]), ("clang++", [])])
def test_one_built_by_hand_is_served(tmp_path, start_weft, compiler, options):
    need(compiler)
    made = build_by_hand(tmp_path, compiler, "by_hand", "-O2", *options)
    assert exported(made) == {"weft_plugin_1"}
    host = start_weft({"plugin.by_hand": {"path": made}})
    assert host.get("/by-hand").body == b"by hand\n"
