"""Goal: what is no plugin, or one for another ABI, is refused in one line that names file and reason,
before any of its code runs; and the README's smallest plugin is built, listed, loaded and replaced in the
way that the README says."""
import os
import re
import shutil
import struct
import subprocess

import pytest

from support import place, plugin
from support.host import run_weft

README = (place.ROOT / "README.md").read_text()
HEADER = (place.ROOT / "include/weft.h").read_text()
ABI = re.search(r"#define WEFT_ABI_MAJOR (\d+)\n#define WEFT_ABI_MINOR (\d+)", HEADER)
MAJOR, MINOR = int(ABI.group(1)), int(ABI.group(2))

# A constructor, so that a test sees whether code of the plugin ran before it was refused.
CONSTRUCTOR = """
#include <stdio.h>
static void __attribute__((constructor)) awake(void) { fputs("CODE OF THE PLUGIN RAN\\n", stderr); }
"""


@pytest.fixture
def refused(tmp_path):
    """A function that has `weft check` load a file as plugin, and returns the one line that it says."""
    def load(path, more=""):
        config = tmp_path / "server.ini"
        config.write_text(f"[server]\nruntime_dir = {tmp_path}/run\n[plugin.it]\npath = {path}\n{more}")
        done = run_weft("check", "-c", config)
        assert done.returncode == 1, done.stdout
        line, = done.stderr.splitlines()
        assert re.match(rf"weft: {re.escape(str(config))}:\d+: ", line), line
        return line
    return load


def other_abi(folder, **numbers):
    """A copy of the header with other numbers."""
    include = folder / "include"
    shutil.copytree(place.ROOT / "include", include)
    header = include / "weft.h"
    text = header.read_text()
    for name, number in numbers.items():
        text, count = re.subn(rf"#define WEFT_ABI_{name} .*", f"#define WEFT_ABI_{name} {number}", text)
        assert count == 1, name
    header.write_text(text)
    return include


def with_settings(path, **more):
    return {"plugin.hello": {"path": "hello.so"}, "plugin.it": {"path": path, **more}}


# refused

def test_another_major(refused, tmp_path):
    """What is built with -D or another header: both numbers stand in the line, and no code of it ran."""
    made = plugin.build(tmp_path, "it", plugin.answering("x", extra=CONSTRUCTOR),
                        include=other_abi(tmp_path, MAJOR=MAJOR + 1))
    line = refused(made)
    assert str(made) in line
    assert f"{MAJOR + 1}.0" in line and f"{MAJOR}.{MINOR}" in line


def test_a_newer_minor(refused, tmp_path):
    made = plugin.build(tmp_path, "it", plugin.answering("x", extra=CONSTRUCTOR), [f"-DWEFT_ABI_TARGET={MINOR + 1}"],
                        include=other_abi(tmp_path, MINOR=MINOR + 1))
    line = refused(made)
    assert str(made) in line
    assert f"{MAJOR}.{MINOR + 1}" in line and f"{MAJOR}.{MINOR}" in line


def test_a_note_and_a_descriptor_that_differ(refused, tmp_path):
    """The note says this ABI, what it exports says another one."""
    made = plugin.build(tmp_path, "it", plugin.answering("x"), include=other_abi(tmp_path, MAJOR=9))
    note = struct.pack("<III8sII", 5, 8, 1, b"weft", 9, 0)
    whole = made.read_bytes()
    assert whole.count(note) == 1
    made.write_bytes(whole.replace(note, struct.pack("<III8sII", 5, 8, 1, b"weft", MAJOR, 0)))
    assert "9.0" in refused(made)


def test_a_missing_symbol(refused, tmp_path):
    extra = "int nowhere_to_be_found(void);\nint use(void);\nint use(void) { return nowhere_to_be_found(); }"
    made = plugin.build(tmp_path, "it", plugin.answering("x", extra=extra), ["-fvisibility=default"])
    line = refused(made)
    assert "undefined symbol: nowhere_to_be_found" in line and str(made) in line


def test_a_missing_library(refused, tmp_path):
    plugin.build(tmp_path, "libgone", "int gone(void); int gone(void) { return 1; }", ["-fvisibility=default"])
    made = plugin.build(tmp_path, "it", plugin.answering("x", extra="int gone(void); int use(void);"
                                                         " int use(void) { return gone(); }"),
                        ["-fvisibility=default", "-Wl,--no-as-needed", f"-L{tmp_path}", "-Wl,-z,now", "-x", "none",
                         str(tmp_path / "libgone.so")])
    (tmp_path / "libgone.so").unlink()
    assert "libgone.so" in refused(made)


def test_no_descriptor_and_no_note(refused, tmp_path):
    made = plugin.build(tmp_path, "it", "int nothing(void); int nothing(void) { return 1; }" + CONSTRUCTOR)
    assert "is no plugin of weft" in refused(made)


def test_a_note_without_a_descriptor(refused, tmp_path):
    source = plugin.answering("x").replace("weft_plugin_1", "x")
    made = plugin.build(tmp_path, "it", source + "\n", ["-Dweft_plugin_1=weft_plugin_9"])
    assert "is no plugin of weft" in refused(made)


def test_no_elf_file(refused, tmp_path):
    made = tmp_path / "it.so"
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + b"\0" * 60, bytes(5000)):
        made.write_bytes(content)
        line = refused(made)
        assert str(made) in line, line


def test_a_truncated_file(refused, tmp_path):
    """Cut anywhere: refused, never a crash of the dynamic linker."""
    made = plugin.build(tmp_path, "it", plugin.answering("x"))
    whole = made.read_bytes()
    for size in (40, 70, 500, 1000, 3000, len(whole) // 2, len(whole) - 5000):
        made.write_bytes(whole[:size])
        assert str(made) in refused(made)


def test_another_machine(refused, tmp_path):
    made = plugin.build(tmp_path, "it", plugin.answering("x"))
    whole = bytearray(made.read_bytes())
    whole[18:20] = b"\x08\x00"  # e_machine: MIPS
    made.write_bytes(whole)
    assert "machine" in refused(made)


def test_a_program_instead_of_a_shared_object(refused):
    assert "/bin/true" in refused("/bin/true")


def test_init_that_fails_says_why(tmp_path):
    source = """
#include <weft.h>
static weft_status init(weft_host *host, void **self)
{
    (void)host;
    (void)self;
    weft_log(NULL, WEFT_LOG_ERROR, "the moon is full");
    return %s;
}
WEFT_PLUGIN("it", "1.0", init, NULL, NULL);
"""
    made = plugin.build(tmp_path, "it", source % "WEFT_E_UNSUPPORTED")
    config = tmp_path / "server.ini"
    config.write_text(f"[server]\nruntime_dir = {tmp_path}/run\n[plugin.it]\npath = {made}\n")
    done = run_weft("check", "-c", config)
    assert done.returncode == 1
    assert "the moon is full" in done.stderr
    assert re.search(rf"^weft: .*:3: .*\[plugin\.it\].*init", done.stderr, re.MULTILINE), done.stderr


def test_a_route_that_is_none(refused, tmp_path):
    for pattern in ("it", "/a//:", "/a/*rest/b", "/:a/:a/" + "x" * 5000):
        line = refused(plugin.build(tmp_path, "it", plugin.answering("x", path=pattern)))
        assert pattern[:20] in line, line


# left out, and listed twice

def test_what_everybody_may_write(refused, start_weft, tmp_path):
    """The file, or the folder that it lies in: whoever wrote there would be root's equal."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    made = plugin.build(folder, "it", plugin.answering("x"))
    made.chmod(0o666)
    assert refused(made).endswith(f"{made} cannot be loaded: it can be written by everybody, expected chmod o-w, or "
                                  "plugins_writable_by_all = on in [server]")
    made.chmod(0o644)
    folder.chmod(0o777)
    assert f"{made} cannot be loaded: its folder {folder} can be written by everybody, " in refused(made)
    host = start_weft({"server": {"plugins_writable_by_all": "on"}, "plugin.it": {"path": made}})
    assert host.get("/it").body == b"x"


@pytest.mark.parametrize("broken", ["nowhere.so", "major", "init"])
def test_one_that_is_not_required_is_left_out(start_weft, tmp_path, broken):
    """The host goes on without it, and says so."""
    path = broken
    if broken == "major":
        path = plugin.build(tmp_path, "it", plugin.answering("x"), include=other_abi(tmp_path, MAJOR=MAJOR + 1))
    if broken == "init":
        path = plugin.build(tmp_path, "it", plugin.answering("x").replace(
            'return weft_route(host, "GET", "/it", it);',
            'WEFT_TRY(weft_route(host, "GET", "/it", it)); return WEFT_E_STATE;'))
    host = start_weft(with_settings(path, required="no"))
    assert host.get("/hello").status == 200
    assert host.get("/it").status == 404
    host.wait_log(r"level=warn .*plugin\.it.*left out")


def test_listed_twice_with_two_mounts(start_weft, tmp_path):
    """Each instance has its own copy: statics are its own."""
    made = plugin.build(tmp_path, "it", """
#include <weft.h>
static int count;
static weft_str text;
static weft_status it(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%s %d", text.ptr, ++count));
}
static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(weft_setting(host, "text", NULL, &text));
    return weft_route(host, "GET", "/it", it);
}
WEFT_PLUGIN("it", "1.0", init, NULL, NULL);
""")
    host = start_weft({"plugin.one": {"path": made, "text": "one"},
                       "plugin.two": {"path": made, "text": "two", "mount": "/two"},
                       "plugin.three": {"path": made, "text": "three", "mount": "/deep/er"}})
    for target, text in (("/it", "one"), ("/two/it", "two"), ("/deep/er/it", "three")):
        for count in range(1, 4):
            assert host.get(target).body.decode() == f"{text} {count}"


# the README

def readme_plugin():
    """The first plugin in the README, the file that it is said to be in, and the line that builds it."""
    source = re.search(r"```c\n(.*?)```", README, re.DOTALL).group(1)
    command = re.search(r"^ {4}(cc .*)$", README, re.MULTILINE).group(1)
    config = re.search(r"```ini\n(.*?)```", README, re.DOTALL).group(1)
    return source, re.search(r"(\w+\.c)\b", command).group(1), command, config


@pytest.fixture
def folder(tmp_path):
    """An empty folder with nothing but the README's plugin, built as it says, and its server.ini."""
    source, name, command, config = readme_plugin()
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / name).write_text(source)
    build(empty)
    return empty


def build(folder, *flags, include=None):
    _, _, command, _ = readme_plugin()
    command = command.replace("$WEFT/include", str(include or "$WEFT/include")).replace("cc ", f"cc {' '.join(flags)} ")
    done = subprocess.run(["sh", "-c", command], cwd=folder, env={"PATH": "/usr/bin:/bin", "WEFT": str(place.ROOT)},
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def readme_text(folder):
    """What of the README's server.ini is not about ports and folders of this test."""
    config = readme_plugin()[3]
    plugins = config[config.index("[plugin."):].replace("./", f"{folder}/")
    return f"[server]\nlisten = 127.0.0.1:@PORT@\nworkers = 1\nruntime_dir = {folder.parent}/run\n\n{plugins}"


def readme_target():
    return re.search(r'"GET", "(/\w+)"', README).group(1)


def test_the_smallest_plugin(start_weft, folder):
    """Built by the README's one line, listed, loaded: it answers. Changed, rebuilt and after a restart it
    answers the new text, and until then the old one."""
    target = readme_target()
    assert sorted(path.suffix for path in folder.iterdir()) == [".c", ".so"]
    host = start_weft(text=readme_text(folder))
    answer = host.get(target)
    wanted = re.search(r'reply_text\(ctx, 200, "(.*?)\\n"\)', README).group(1)
    assert (answer.status, answer.body.decode()) == (200, wanted + "\n")
    source, = folder.glob("*.c")
    source.write_text(source.read_text().replace(wanted, "Something else"))
    build(folder)
    assert host.get(target).body.decode() == wanted + "\n"
    host.stop()
    assert host.start().get(target).body == b"Something else\n"


def test_the_smallest_plugin_for_another_abi(start_weft, folder, tmp_path):
    """Refused in one line, with both versions."""
    build(folder, include=other_abi(tmp_path, MAJOR=MAJOR + 1))
    host = start_weft(text=readme_text(folder), wait=False)
    assert host.wait() == 1
    lines = [line for line in host.log.splitlines() if f"{MAJOR + 1}.0" in line]
    assert len(lines) == 1 and f"{MAJOR}.{MINOR}" in lines[0] and ".so" in lines[0], host.log
    host.process = None


def test_the_smallest_plugin_checked(folder):
    config = folder / "server.ini"
    config.write_text(readme_text(folder).replace("@PORT@", "8000"))
    done = run_weft("check", "-c", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:2] == ["GET", readme_target()]


def test_weft_plugin_of_cmake(start_weft, tmp_path):
    """The line for CMakeLists.txt builds the same."""
    (tmp_path / "it.c").write_text(plugin.answering("from cmake"))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(it C)\n"
        f"include({place.ROOT}/cmake/WeftPlugin.cmake)\nweft_plugin(it it.c)\n")
    for command in (["cmake", "-G", "Ninja", "-S", ".", "-B", "out"], ["cmake", "--build", "out"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / "out" / "plugins" / "it.so"
    host = start_weft(with_settings(made))
    assert host.get("/it").body == b"from cmake"


BACKGROUND = """
#include <weft.h>
static weft_status start(weft_ctx *background, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_sleep(background, 60000)));
    return WEFT_OK;
}
static weft_status init(weft_host *host, void **self)
{
    (void)host, (void)self;
    return WEFT_OK;
}
WEFT_PLUGIN("job", "1.0", init, start, NULL);
"""


def test_a_job_that_ends_with_its_worker_is_no_failure(start_weft, tmp_path):
    sections = with_settings(plugin.build(tmp_path, "job", BACKGROUND))
    sections.setdefault("server", {})["user"] = os.geteuid()     # as root, said so: without a warning
    host = start_weft(sections)
    host.stop()
    assert "level=warn" not in host.log and "level=error" not in host.log


def test_hello_is_small():
    assert len((place.ROOT / "plugins/hello/hello.c").read_text().splitlines()) <= 25
