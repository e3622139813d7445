"""Goal: every entry of every table answers a wrong handle, a wrong thread and a wrong moment with WEFT_E_STATE or with
nothing, tells it in the log with the plugin's name, and harms nobody. The calls are generated from the headers: one
that is appended is called here, too."""
import re

import pytest
from entries import ADDRESSES, CALLBACKS, ENTRIES, FUNCTIONS, HANDLES, STRUCTS

from support import plugin

STATE = -102
# What stands for nothing where that is no 0 and not absent.
NOTHING = {"core.why": "8", "core.winner": "-1", "http.reply_length": "-1", "pg.column": "-1", "call.time_us": "-1", "pg.is_null": "1"}
MODES = {"null": "no handle", "stale": "handles of what has ended", "random": "numbers that are no handles",
         "crossed": "handles of something else", "thread": "good handles on another thread",
         "init": "no handle, in init()", "start": "no handle, in start()"}

FRAME = r"""
#include "weft.h"
#include <pthread.h>
#include <stdlib.h>

/* The handles that a mode tries. */
struct handles { weft_host *host; weft_ctx *ctx; weft_op *op; weft_pg *pg; weft_stmt *stmt; weft_upstream *upstream; };

static char text[65536];
static size_t len;
static uint32_t ran;
static weft_host *old_host;
static struct handles stale;

#define NOTE(...) (len += (size_t)snprintf(text + len, sizeof text - len, __VA_ARGS__))

@CALLBACKS@

@CALLS@

static void call_all(const char *mode, const struct handles *h)
{
    NOTE("%s mode 0\n", mode);
    @EACH@
}

static void *on_thread(void *data)
{
    call_all("thread", data);
    return NULL;
}

static weft_status misuse(weft_ctx *ctx, void *self)
{
    uint64_t number = strtoull("12345678901234567", NULL, 10);
    struct handles good = {old_host, ctx, weft_sleep(ctx, 1), NULL, NULL, NULL};
    struct handles crossed = {(weft_host *)ctx, (weft_ctx *)good.op, (weft_op *)ctx, (weft_pg *)ctx, (weft_stmt *)ctx,
                              (weft_upstream *)good.op};
    struct handles none = {NULL, NULL, NULL, NULL, NULL, NULL}, numbers;
    weft_ctx *child = weft_child(ctx, 100, 0);
    pthread_t thread;

    (void)self;
    for (size_t i = 0; i < sizeof numbers / sizeof(void *); i++)
        ((void **)&numbers)[i] = (void *)(uintptr_t)(number += 0x123456789abcdef);
    stale = (struct handles){old_host, child, weft_sleep(child, 1), (weft_pg *)weft_sleep(child, 1), NULL, NULL};
    WEFT_TRY(weft_end(child));
    WEFT_TRY(weft_await(good.op));
    WEFT_TRY(weft_await(weft_sleep(ctx, 5)));
    call_all("null", &none);
    call_all("stale", &stale);
    call_all("random", &numbers);
    call_all("crossed", &crossed);
    if (pthread_create(&thread, NULL, on_thread, &good) != 0)
        return WEFT_E_STATE;
    pthread_join(thread, NULL);
    NOTE("ran %u\n", ran);
    return weft_reply_text(ctx, 200, text);
}

static weft_status init(weft_host *host, void **self)
{
    static const struct handles none;

    (void)self;
    old_host = host;
    call_all("init", &none);
    return weft_route(host, "GET", "/misuse", misuse);
}

static weft_status start(weft_ctx *background, void *self)
{
    static const struct handles none;

    (void)background;
    (void)self;
    call_all("start", &none);
    return WEFT_OK;
}

WEFT_PLUGIN("misuse", "1.0", init, start, NULL);
"""


def callback(name):
    """A function of the plugin, of one of the types of weft.h, that nobody should call."""
    result, parameters = CALLBACKS[name]
    unused = "".join(f" (void){part.split('*')[-1].split()[-1]};" for part in parameters)
    back = "" if result == "void" else " return 0;"
    return f"__attribute__((unused)) static {result} on_{name}({', '.join(parameters)}) {{{unused} ran++;{back} }}"


def argument(parameter, index):
    """A declaration, or none, and an expression for a parameter: handles are the mode's, all else is right."""
    kind, base = parameter.type, parameter.type.removeprefix("const ").removesuffix("*").strip()
    if base in ADDRESSES and kind.count("*") == 1:
        return "", "NULL"
    if kind == "weft_op *const *":
        return f"weft_op *a{index}[] = {{h->op}};", f"a{index}"
    if base in HANDLES and kind == f"{base} *":
        return "", f"h->{base.removeprefix('weft_')}"
    if base in CALLBACKS:
        return "", f"on_{base}"
    if kind in ("const char *", "void *", "weft_str"):
        return ("static const weft_str a%d = WEFT_S(\"x\");" % index, f"a{index}") if kind == "weft_str" else (
            "", '"x"' if kind == "const char *" else "NULL")
    if kind.endswith("**"):
        return f"{kind[:-1]}a{index} = NULL;", f"&a{index}"
    if kind.endswith("*"):
        size = f" a{index}.size = sizeof a{index};" if "size" in STRUCTS.get(base, []) else ""
        return f"static {base} a{index};{size}", f"&a{index}"
    return "", "0" if parameter.name in ("flags", "kind") else "1"


def answer(entry, call):
    """Statements that call and note what it answered."""
    name, result = f"{entry.table}.{entry.name}", entry.result
    if result == "void":
        return f'{call}; NOTE("{name} -\\n");'
    if result in ("weft_str", "weft_field"):
        part = ".name.ptr" if result == "weft_field" else ".ptr"
        return f'NOTE("{name} %s\\n", {call}{part} == NULL ? "absent" : "there");'
    if result.endswith("*"):
        return f'NOTE("{name} %s\\n", {call} == NULL ? "absent" : "there");'
    return f'NOTE("{name} %lld\\n", (long long){call});'


def source():
    calls = []
    for entry in ENTRIES:
        arguments = [argument(parameter, index) for index, parameter in enumerate(entry.parameters)]
        declared = " ".join(before for before, _ in arguments)
        call = f"{entry.call}({', '.join(expression for _, expression in arguments)})"
        calls.append(f"static void call_{entry.table}_{entry.name}(const struct handles *h)\n"
                     f"{{ (void)h; {declared} {answer(entry, call)} }}")
    each = " ".join(f"call_{entry.table}_{entry.name}(h);" for entry in ENTRIES)
    return FRAME.replace("@CALLBACKS@", "\n".join(callback(name) for name in CALLBACKS)).replace(
        "@CALLS@", "\n".join(calls)).replace("@EACH@", each)


def expected(entry, mode):
    """What it answers; None: anything."""
    name = f"{entry.table}.{entry.name}"
    if entry.thread == "any":
        return None
    if entry.name == "alloc":
        return "there"   # memory of nobody, since it is never NULL
    if entry.result == "void":
        return "-"
    if name in NOTHING:
        return NOTHING[name]
    if entry.result == "weft_status":
        return str(STATE)
    return "absent" if entry.result in ("weft_str", "weft_field") or entry.result.endswith("*") else "0"


def test_every_entry_is_found():
    listed = {(name.split("_")[1], part) for name, members in STRUCTS.items() if re.fullmatch(r"weft_\w+_api", name)
              for part in members if part not in ("size", "reserved")}
    assert {(entry.table, entry.name) for entry in ENTRIES} == listed
    assert len(ENTRIES) > 65
    for entry in ENTRIES:
        assert entry.thread in ("init", "loop", "any"), entry


def test_every_function_calls_an_entry_that_names_it():
    """Or another function, or none: then it is a helper of text and numbers."""
    named = {wrapper for entry in ENTRIES for wrapper in entry.wrappers}
    assert named <= {function.name for function in FUNCTIONS}


@pytest.fixture
def answers(tmp_path, start_weft):
    """{mode: {entry: answer}}, and the host, which still serves."""
    made = plugin.build(tmp_path, "misuse", source(), ["-Wall", "-Wextra", "-Werror", "-pthread"])
    host = start_weft({"plugin.misuse": {"path": made}, "plugin.hello": {"path": "hello.so"}})
    lines = host.get("/misuse").body.decode().splitlines()
    assert lines.pop() == "ran 0"
    found, mode = {}, None
    for line in lines:
        name, value = line.rsplit(" ", 1)
        if name.endswith(" mode"):
            mode = found[name.split()[0]] = {}
        else:
            mode[name] = value
    assert host.get("/hello").status == 200
    return found, host


def test_each_is_answered_and_told(answers):
    found, host = answers
    assert set(found) == set(MODES)
    wrong = [f"{mode}: {entry} answers {found[mode][repr(entry)]}, not {expected(entry, mode)}"
             for mode in found for entry in ENTRIES
             if expected(entry, mode) not in (None, found[mode][repr(entry)])]
    assert not wrong, "\n".join(wrong)
    silent = [f"{entry}: {why}" for entry in ENTRIES if entry.thread != "any"
              for why, pattern in reasons(entry) if not re.search(pattern, host.log, re.MULTILINE)]
    assert not silent, "\n".join(silent)


def reasons(entry):
    """What the log must say of an entry, each with the plugin's name."""
    names = "|".join([f"weft_{entry.name}", *entry.wrappers])
    line = rf"^.*msg=\"(?:{names})\(\): "
    yield "a call from another thread", line + r"called from a thread that is not the loop's\" plugin=misuse"
    if entry.thread == "init":
        yield "a late call", line + r"a host handle is good during init\(\) only\" plugin=misuse route=\"GET /misuse\""
    else:
        yield "no handle in init() or start()", line + r"no .*\" plugin=misuse$"
        yield "no handle in the handler", line + r"no .*\" plugin=misuse route=\"GET /misuse\" request=\w"
        yield "a stale one", line + r".*that has (ended|gone).*\" plugin=misuse route=\"GET /misuse\""
