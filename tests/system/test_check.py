"""Goal: `weft check FILE.so` says what a plugin is, needs and serves, without settings, server or database;
and what is wrong with it in one line, also where it crashes."""
import re
import shutil

import pytest

from support import place, plugin
from support.host import run_weft

ASKING = """
#include <weft.h>
static weft_status it(weft_ctx *ctx, void *self) { (void)self; return weft_reply_text(ctx, 200, "x"); }
static weft_status init(weft_host *host, void **self)
{
    weft_str text;
    int64_t number;
    uint32_t flag;
    weft_pg *db;
    weft_upstream *api;
    weft_stmt *statement;

    (void)self;
    WEFT_TRY(weft_setting(host, "key", NULL, &text));
    WEFT_TRY(weft_setting(host, "greeting", "hello", &text));
    WEFT_TRY(weft_setting(host, "greeting", "hello", &text));
    WEFT_TRY(weft_setting_int(host, "number", 1, 9, 5, &number));
    WEFT_TRY(weft_setting_bool(host, "flag", 1, &flag));
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_pool(host, "other", &db));
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_declare(host, db, "one", "select 1", WEFT_STMT_READ_ONLY, &statement));
    WEFT_TRY(weft_declare(host, db, "add", "\\n  insert into t\\n  values ($1)\\n", 0, &statement));
    WEFT_TRY(weft_declare(host, db, "all", "select\\t*", WEFT_STMT_READ_ONLY | WEFT_STMT_SLOW, &statement));
    WEFT_TRY(weft_declare(host, db, "alone", "lock table t", 0, &statement));
    WEFT_TRY(weft_find_upstream(host, "main", &api));
    return weft_route(host, "GET", "/it/:id", it);
}
WEFT_PLUGIN("asking", "2.5", init, NULL, NULL);
"""
WANTED = """plugin asking 2.5
abi 1.0
setting key text, required
setting greeting text, default hello
setting number a whole number from 1 to 9, default 5
setting flag on, off, yes or no, default on
pool [pg.main]
pool [pg.other]
statement one [pg.main], read only: select 1
statement add [pg.main]: insert into t values ($1)
statement all [pg.main], read only, slow: select *
statement alone [pg.main], in transactions: lock table t
upstream [upstream.main]
route GET /it/:id it"""


def words(text):
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def check(path, *options):
    return run_weft("check", path, *options)


@pytest.fixture
def asking(tmp_path):
    return plugin.build(tmp_path, "it", ASKING)


def test_all_that_it_asks_for(asking):
    done = check(asking)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) == WANTED


@pytest.mark.parametrize("name", ["hello", "books", "books_then", "thirdparty", "bench"])
def test_the_shipped_plugins(name):
    done = check(place.BUILD / "plugins" / f"{name}.so")
    assert done.returncode == 0, done.stderr
    assert re.match(rf"plugin +{name} \S+\nabi +1\.0\n", done.stdout), done.stdout
    assert "\nroute " in done.stdout


def test_settings_may_be_given(asking):
    done = check(asking, "-o", "plugin.it.mount=/there", "-o", "plugin.it.number=7", "-o", "pg.main.host=/tmp")
    assert (done.returncode, done.stderr) == (0, "")
    assert "GET     /there/it/:id" in done.stdout
    assert not re.search(r"^pool +\[pg.main\]", done.stdout, re.MULTILINE)     # it has one, so none stands in
    done = check(asking, "-o", "plugin.it.number=70")
    assert done.returncode == 1
    assert done.stderr == ("weft: -o plugin.it.number: [plugin.it]: number = 70: expected a whole number from "
                           "1 to 9\n")
    done = check(asking, "-o", "plugin.it.colour=red")
    assert done.returncode == 1
    assert done.stderr.startswith("weft: -o plugin.it.colour: unknown key colour in [plugin.it]")


def test_a_name_that_is_no_section_s(asking, tmp_path):
    """Blanks, dollars and dots; and a path that begins here."""
    odd = tmp_path / ".a $b ${c}.d.so"
    shutil.copy(asking, odd)
    assert check(odd).returncode == 0, check(odd).stderr


def test_what_is_wrong(tmp_path):
    """One line, which names the file; what was learned before stands on stdout."""
    made = plugin.build(tmp_path, "it", ASKING.replace('return weft_route', 'return WEFT_E_INVALID;\n    return weft_route'))
    done = check(made)
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line.startswith(f"weft: {made}: ") and "its init() returned -" in line
    assert "setting   key" in done.stdout and "route" not in done.stdout
    text = tmp_path / "text.so"
    text.write_text("hello\n" * 100)
    for path, reason in [(text, "not an ELF file"), (tmp_path / "none.so", "No such file or directory"),
                         (tmp_path, "is no file")]:
        done = check(path)
        line, = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith(f"weft: {path}: ") and reason in line, done.stderr
        assert done.stdout == ""


def test_one_that_crashes(tmp_path):
    made = plugin.build(tmp_path, "it", ASKING.replace("(void)self;\n    WEFT_TRY", "(void)self;\n    __builtin_trap();\n    WEFT_TRY"))
    done = check(made)
    assert done.returncode == 1
    report, *_, verdict = done.stderr.splitlines()
    assert "crashed: signal " in report and "plugin=it" in report, report
    assert re.fullmatch(r"weft: killed by signal \d+ .* while it ran plugin=it route=\(init\) .*", verdict)


def test_either_settings_or_a_file(asking, tmp_path):
    config = tmp_path / "server.ini"
    config.write_text("")
    done = run_weft("check", "-c", config, asking)
    assert done.returncode == 2 and "unexpected argument" in done.stderr
    assert run_weft(asking).returncode == 2
