"""Goal: whatever a plugin does with the ABI's functions, at whatever moment, with whatever handles, whatever its
clients do meanwhile, the worker lives, no callback runs inside a call, what the host hands out can be read, and in
the end nothing is left. Random, from a seed that is printed: WEFT_SEED repeats the plugin's choices. The calls are generated
from the headers: one that is appended is tried here, too."""
import re

import pytest
from entries import CALLBACKS, ENTRIES, HANDLES, STRUCTS

from support import plugin, soak
from support.peer import fixed
from support.visitors import storm

STORM_S = 900 if soak.IS_ON else 6
REQUESTS = [("GET", "/hostile/1?n=2", None), ("GET", "/hostile/finish", None), ("POST", "/hostile/up/a", b"x" * 100000),
            ("POST", "/hostile/a", b"x" * 100),
            ("POST", "/hostile/b", b"x" * 3000)]

FRAME = r"""
#include "weft.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { RING = 24, LIST = 8 };

static uint64_t seed;               /* of the loop's thread */
static _Thread_local uint64_t other;/* of another thread; 0: the loop's */
static _Thread_local bool inside;   /* a call that runs no callback */
static int32_t budget;              /* steps that may still be done */
static weft_inbox *inbox;

static uint32_t below(uint32_t bound)
{
    uint64_t *state = other != 0 ? &other : &seed;

    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545f4914f6cdd1dull) >> 32) % bound;
}

static void must(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "CHECK failed in the hostile plugin: %s\n", what);
    abort();
}

/* What the host hands out can be read, has a NUL behind it, and is absent or not. */
static void touch(weft_str s)
{
    volatile char sum = 0;

    for (size_t i = 0; s.ptr != NULL && i < s.len; i++)
        sum = (char)(sum + s.ptr[i]);
    must(s.ptr == NULL || s.ptr[s.len] == '\0', "no NUL behind a text");
    must(s.ptr != NULL || s.len == 0, "an absent text with a length");
}

static const char *const texts[] = {
    "", "x", "id", "n", "X-A", "Content-Length", "a\r\nb: c", "text/plain", "GET", "/", "/x", "/x?y=1", "no slash",
    "select 1", "select 1 as n, 'a' as id", "select $1::text as n", "select pg_sleep(0.003)", "select 1/0", "begin",
    "listen x", "set x.y = 1", "insert into names values ($1)", "select * from generate_series(1, 300) n", "commit",
    "select repeat('x', 10000) as n", "nonsense", "\xff\xfe", "main", "partner", "%d%s%n",
};

static const char *pick_text(void)
{
    return below(20) == 0 ? NULL : texts[below(sizeof texts / sizeof texts[0])];
}

static weft_str pick_str(void)
{
    static const char bytes[] = "some\0bytes\r\nand more";
    weft_str s = weft_cstr(texts[below(sizeof texts / sizeof texts[0])]);

    switch (below(8)) {
    case 0:
        s.ptr = NULL;
        break;
    case 1:
        s.ptr = bytes;
        s.len = below(sizeof bytes);
        break;
    }
    return s;
}

static const weft_str *pick_strs(void)
{
    static weft_str strs[LIST];

    for (uint32_t i = 0; i < LIST; i++)
        strs[i] = pick_str();
    return below(20) == 0 ? NULL : strs;
}

static const weft_file *pick_file(void)
{
    static weft_file file;

    file.size = below(20) == 0 ? 8 : sizeof file;
    file.fd = below(9) == 0 ? -1 : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    file.offset = below(20) == 0 ? UINT64_MAX : below(100000);
    file.length = below(20) == 0 ? UINT64_MAX : below(2) == 0 ? below(3000) : below(3000000);
    return below(20) == 0 ? NULL : &file;
}

static uint32_t pick_code(void)
{
    static const uint32_t codes[] = {200, 200, 200, 201, 204, 303, 304, 404, 500, 0, 99, 700, UINT32_MAX};

    return codes[below(sizeof codes / sizeof codes[0])];
}

static const weft_value *pick_values(void)
{
    static const uint32_t others[] = {WEFT_V_NULL, WEFT_V_BOOL, WEFT_V_INT, WEFT_V_TIME, 99, UINT32_MAX};
    static weft_value values[LIST];
    static int64_t ints[LIST];
    static weft_str items[LIST];

    for (uint32_t i = 0; i < LIST; i++) {
        items[i] = pick_str();
        ints[i] = (int64_t)below(UINT32_MAX) << below(32);
        values[i] = (weft_value){others[below(6)], 0, {.i = ints[i]}};
        switch (below(6)) {
        case 0:
            values[i] = weft_ints(below(i + 2), ints);
            break;
        case 1:
            values[i] = weft_texts(below(i + 2), items);
            break;
        case 2:
            values[i] = weft_double((double)ints[i] / 3);
            break;
        case 3:
            values[i] = weft_text(items[i]);
            values[i].kind = WEFT_V_TEXT + below(3);
            break;
        }
    }
    return below(20) == 0 ? NULL : values;
}

static const weft_call *pick_call(void)
{
    static weft_field fields[2];
    static weft_call call;

    for (uint32_t i = 0; i < 2; i++)
        fields[i] = (weft_field){pick_str(), pick_str()};
    call = (weft_call){sizeof call, below(10) == 0 ? below(9) : 0, pick_text(), pick_str(), pick_str(), fields,
                       below(3), below(50), below(3) * 5, below(3), 0};
    if (below(2) == 0)
        call.path = weft_cstr("/quick");
    return below(20) == 0 ? NULL : &call;
}

static const weft_route_options *pick_options(void)
{
    static weft_route_options options;

    options = (weft_route_options){sizeof options, below(8) * 2, below(300), below(2000), below(20)};
    return below(4) == 0 ? NULL : &options;
}

@HANDLES@

static weft_op *const *pick_ops(weft_ctx *ctx)
{
    static weft_op *ops[LIST];

    for (uint32_t i = 0; i < LIST; i++)
        ops[i] = pick_op(ctx);
    return ops;
}

static void go_on(weft_ctx *ctx, uint32_t most);

static weft_status pick_status(void)
{
    static const weft_status statuses[] = {0, 0, 0, 0, WEFT_E_CANCELED, WEFT_E_NOT_FOUND, WEFT_E_DB, 1, -999};

    return statuses[below(sizeof statuses / sizeof statuses[0])];
}

@CALLBACKS@

@TRIES@

static void (*const tries[])(weft_ctx *) = {@NAMES@};
static void (*const at_init[])(weft_ctx *) = {@AT_INIT@};

static void go_on(weft_ctx *ctx, uint32_t most)
{
    for (uint32_t i = below(most + 1); i > 0; i--) {
        if (__atomic_sub_fetch(&budget, 1, __ATOMIC_RELAXED) < 0)
            return;
        tries[below(sizeof tries / sizeof tries[0])](ctx);
    }
}

/* A thread of the plugin's own: every call but those that are for any thread is refused. */
static void *roam(void *data)
{
    other = (uint64_t)(uintptr_t)data;
    for (uint32_t i = 0; i < 40; i++) {
        tries[below(sizeof tries / sizeof tries[0])](NULL);
        (void)!weft_post(inbox, on_weft_handler, NULL);
    }
    return NULL;
}

static weft_status hostile(weft_ctx *ctx, void *self)
{
    (void)self;
    keep_ctx(ctx);
    __atomic_store_n(&budget, 120, __ATOMIC_RELAXED);
    if (below(40) == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, roam, (void *)(uintptr_t)(below(1000000) + 1)) == 0)
            pthread_join(thread, NULL);
    }
    go_on(ctx, 30);
    if (below(3) == 0)
        (void)weft_reply_text(ctx, 200, "hostile");
    return pick_status();
}

static weft_status init(weft_host *host, void **self)
{
    weft_route_options hasty = {sizeof hasty, 0, 700, 0, 0}, finish = {sizeof finish, WEFT_ROUTE_FINISH, 700, 0, 4};
    weft_route_options streams = {sizeof streams, WEFT_ROUTE_STREAM, 700, 0, 0};
    weft_upstream *upstream;
    weft_stmt *stmt;
    weft_pg *db;
    int64_t number;

    (void)self;
    WEFT_TRY(weft_setting_int(host, "seed", 1, INT64_MAX, 1, &number));
    seed = (uint64_t)number;
    WEFT_TRY(weft_open_inbox(host, &inbox));
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_declare(host, db, "add", "insert into names values ($1)", 0, &stmt));
    keep_stmt(stmt);
    WEFT_TRY(weft_declare(host, db, "read", "select $1::text as n", WEFT_STMT_READ_ONLY, &stmt));
    keep_stmt(stmt);
    WEFT_TRY(weft_find_upstream(host, "partner", &upstream));
    keep_pg(db);
    keep_upstream(upstream);
    keep_host(host);
    budget = 1000000;
    for (uint32_t i = 0; i < 300; i++)
        at_init[below(sizeof at_init / sizeof at_init[0])](NULL);
    WEFT_TRY(weft_route_with(host, "GET", "/hostile/finish", hostile, NULL, &finish));
    WEFT_TRY(weft_route_with(host, "POST", "/hostile/:id", hostile, NULL, &hasty));
    WEFT_TRY(weft_route_with(host, "POST", "/hostile/up/:id", hostile, NULL, &streams));
    return weft_route_with(host, "GET", "/hostile/:id", hostile, NULL, &hasty);
}

static weft_status start(weft_ctx *background, void *self)
{
    (void)self;
    keep_ctx(background);
    while (weft_why(background) == WEFT_WHY_NONE) {
        weft_ctx *turn = weft_child(background, 0, 0);
        weft_status status;
        go_on(turn, 3);
        status = weft_await(weft_sleep(background, 20));
        (void)weft_end(turn);
        WEFT_TRY(status);
    }
    return WEFT_OK;
}

static void fini(void *self)
{
    (void)self;
    budget = 100;
    go_on(NULL, 100);
}

WEFT_PLUGIN("hostile", "1.0", init, start, fini);
"""


def short(name):
    return name.removeprefix("weft_")


def ring(name):
    """Where handles of a type are kept, which belong to any request, or to none any more."""
    own = "ctx != NULL && below(2) == 0 ? ctx : " if name == "weft_ctx" else ""
    return f"""
static {name} *kept_{short(name)}[RING];

__attribute__((unused)) static void keep_{short(name)}({name} *one)
{{
    for (uint32_t i = 0; other == 0 && one != NULL && i < RING; i++)
        if (kept_{short(name)}[i] == NULL || below(RING) == 0)
            kept_{short(name)}[i] = one;
}}

static {name} *pick_{short(name)}(weft_ctx *ctx)
{{
    (void)ctx;
    if (below(30) == 0)
        return NULL;
    if (other != 0 || below(30) == 0)
        return ({name} *)(uintptr_t)(below(UINT32_MAX) * 0x10001ull);
    return {own}kept_{short(name)}[below(RING)];
}}"""


def callback(name):
    """A function of the plugin that goes on with whatever it is given."""
    result, parameters = CALLBACKS[name]
    names = [part.split("*")[-1].split()[-1] for part in parameters]
    ctx = "ctx" if "ctx" in names else "NULL"
    keep = "".join(f" keep_{part}({part});" for part in names if f"weft_{part}" in HANDLES)
    back = {"void": "", "weft_status": "return pick_status();"}.get(result, "return pick_op(ctx);")
    enter = "bool is_other = other == 0 && pthread_self() != loop; if (is_other) other = 12345;"
    leave = "if (is_other) other = 0;"
    unused = "".join(f" (void){part};" for part in names)
    return (f"__attribute__((unused)) static {result} on_{name}({', '.join(parameters)})\n{{{unused} {enter}\n"
            f'    must(!inside, "a callback inside a call");{keep}\n    go_on({ctx}, 5); {leave} {back}\n}}')


def argument(parameter):
    kind, base = parameter.type, parameter.type.removeprefix("const ").rstrip("* ").strip()
    named = {"code": "pick_code()", "ms": "below(25)", "kind": "below(4)", "flags": "below(5)", "level": "below(6)",
             "count": "below(LIST + 1)", "row": "below(4)", "column": "below(4)", "min": "-5", "max": "1000"}
    if kind == "weft_op *const *":
        return "pick_ops(ctx)"
    if base == "weft_inbox" and kind.count("*") == 1:
        return "below(20) == 0 ? NULL : inbox"
    if base in HANDLES and kind.count("*") == 1:
        return f"pick_{short(base)}(ctx)"
    if base in CALLBACKS:
        return f"below(20) == 0 ? NULL : on_{base}"
    simple = {"const char *": "pick_text()", "weft_str": "pick_str()", "const weft_str *": "pick_strs()",
              "void *": "NULL", "const weft_value *": "pick_values()", "const weft_call *": "pick_call()",
              "const weft_route_options *": "pick_options()", "const weft_file *": "pick_file()",
              "size_t": "below(below(50) == 0 ? 1 << 20 : 3000)", "weft_status": "pick_status()"}
    if kind in simple:
        return simple[kind]
    if kind.endswith("*"):
        return f"scratch_{short(base)}{'_handle' if kind.endswith('**') else ''}()"
    return named.get(parameter.name, f"({kind})below(3000)")


def scratches():
    """Places for what is handed back by address; option structs that nobody here knows better are zero."""
    made, texts = set(), []
    for entry in ENTRIES:
        for parameter in entry.parameters:
            expression = argument(parameter)
            if not expression.startswith("scratch_") or expression in made:
                continue
            made.add(expression)
            kind = parameter.type.removeprefix("const ").removesuffix("*").strip()
            base = kind.rstrip("* ")
            size = " place.size = sizeof place;" if "size" in STRUCTS.get(base, []) else ""
            texts.append(f"static {kind} *{expression[:-2]}(void) {{ static {kind} place;{size} return &place; }}")
    return "\n".join(texts)


def attempt(entry):
    call = f"{entry.call}({', '.join(argument(parameter) for parameter in entry.parameters)})"
    base = entry.result.rstrip("* ").strip()
    wait = entry.name == "await"
    enter, leave = ("", "") if wait else ("inside = true; ", " inside = false;")
    if entry.result == "void":
        body = f"{enter}{call};{leave}"
    elif entry.result == "weft_str":
        body = f"{enter}weft_str s = {call};{leave} touch(s);"
    elif base in HANDLES:
        body = f"{enter}{entry.result} made = {call};{leave} keep_{short(base)}(made);"
    elif entry.result == "void *":
        call = call.replace(argument(entry.parameters[-1]), "1 + below(3000)")
        body = f'{enter}char *made = {call};{leave} must(made != NULL, "no memory"); *made = 1;'
    else:
        body = f"{enter}(void){call};{leave}"
    return f"static void try_{entry.table}_{entry.name}(weft_ctx *ctx)\n{{ (void)ctx; {body} }}"


def source():
    handles = "\n".join(ring(name) for name in sorted(HANDLES) if name != "weft_inbox") + "\n" + scratches()
    loop = ("\nstatic pthread_t loop;\n"
            "__attribute__((constructor)) static void note_loop(void) { loop = pthread_self(); }\n")
    return (FRAME.replace("@HANDLES@", handles + loop)
            .replace("@CALLBACKS@", "\n".join(callback(name) for name in CALLBACKS))
            .replace("@TRIES@", "\n".join(attempt(entry) for entry in ENTRIES))
            .replace("@NAMES@", ", ".join(f"try_{entry.table}_{entry.name}" for entry in ENTRIES))
            .replace("@AT_INIT@", ", ".join(f"try_{entry.table}_{entry.name}" for entry in ENTRIES
                                            if entry.thread == "init")))


@pytest.mark.limit(STORM_S + 120)
def test_a_hostile_plugin(tmp_path, start_weft, database, peer, capsys):
    seed = soak.seed()
    with capsys.disabled():
        print(f"\nWEFT_SEED={seed}")
    database.cluster.run("set role weft; create table names (name text)", database=database.name)
    peer.on("GET", "/quick", fixed(body="got"))
    made = plugin.build(tmp_path, "hostile", source(), ["-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
                                                        "-Wno-unused-function", "-pthread"])
    host = start_weft({"pg.main": {**database.settings, "sessions": 4}, "upstream.partner": {"url": peer.url},
                       "plugin.hostile": {"path": made, "seed": seed}, "plugin.hello": {"path": "hello.so"}})
    worker = host.workers()
    answers = storm(host, REQUESTS, seed, STORM_S)
    assert host.workers() == worker, f"WEFT_SEED={seed}: the worker has gone\n{host.log[-20000:]}"
    assert answers > 20
    assert database.run("select count(*) from names")[0][0] > 0 and len(peer.requests) > 0   # some of it was right
    assert host.get("/hello").status == 200
    host.stop()
    assert not re.search(r"exited with code|killed by", host.log), f"WEFT_SEED={seed}"
