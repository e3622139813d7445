"""Goal: what `cmake --install` puts somewhere is whole: it runs from there, also where it was moved to, with
its plugins, and from it alone a plugin is built outside the tree, with pkg-config and with CMake."""
import os
import shutil
import subprocess

import pytest

from support import place, plugin
from support.host import ini_text


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installation that was moved after it was made."""
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", place.BUILD, "--prefix", folder / "made")
    return (folder / "made").rename(folder / "moved")


def check(prefix, folder, sections):
    """What the installed program says of these settings."""
    config = folder / "server.ini"
    config.write_text(ini_text({"server": {"runtime_dir": folder / "run"}, **sections}))
    return run(prefix / "bin" / "weft", "check", "-c", config)


def library_folder(prefix):
    """lib, or lib/x86_64-linux-gnu where the distribution has it so."""
    found, = prefix.glob("**/weft/plugins")
    return found.parents[1]


def test_all_is_there(prefix):
    lib = library_folder(prefix)
    for path in ["bin/weft", "include/weft.h", "include/weft_tables.h", "include/weft_json.h",
                 "include/weft_jansson.h", "share/weft/server.ini", "share/weft/weft.service"]:
        assert (prefix / path).is_file(), path
    for path in ["libweft_test.so", "pkgconfig/weft-test.pc", "cmake/weft/weft-targets.cmake", "pkgconfig/weft.pc", "cmake/weft/weft-config.cmake", "cmake/weft/WeftPlugin.cmake",
                 "cmake/weft/plugin.map"]:
        assert (lib / path).is_file(), path
    shipped = {path.parent.name + ".so" for path in (place.ROOT / "plugins").glob("*/*.c")}
    assert {path.name for path in (lib / "weft" / "plugins").iterdir()} == shipped
    headers = {path.name for path in (place.ROOT / "include").iterdir() if path.suffix in (".h", ".hpp")}
    assert {path.name for path in (prefix / "include").iterdir()} == headers


def test_its_settings_are_the_defaults(prefix):
    assert run(prefix / "bin" / "weft", "defaults") == (prefix / "share/weft/server.ini").read_text()


def test_it_finds_its_plugins(prefix, tmp_path):
    assert "/hello" in check(prefix, tmp_path, {"plugin.hello": {"path": "hello.so"}})


def test_a_plugin_with_pkg_config(prefix, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(library_folder(prefix) / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "weft", env=env).split()
    assert str(place.ROOT) not in " ".join(flags)
    (tmp_path / "it.c").write_text(plugin.answering("x"))
    run("cc", *flags, "it.c", "-o", "it.so", cwd=tmp_path)
    assert "/it" in check(prefix, tmp_path, {"plugin.it": {"path": "./it.so"}})
    found = run("pkg-config", "--variable=plugindir", "weft", env=env).strip()
    assert os.path.samefile(found, library_folder(prefix) / "weft" / "plugins")


def test_a_plugin_with_cmake(prefix, tmp_path):
    (tmp_path / "it.c").write_text(plugin.answering("x"))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(it C)\n"
        "find_package(weft 0.1 REQUIRED)\nweft_plugin(it it.c)\n"
        "install(TARGETS it LIBRARY DESTINATION ${WEFT_PLUGIN_DIR})\n"
        "message(\"program: ${WEFT_PROGRAM}\")\n")
    text = run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={prefix}")
    text += run("cmake", "--build", tmp_path / "out", "--verbose")
    assert str(place.ROOT) + "/include" not in text
    assert "/it" in check(prefix, tmp_path, {"plugin.it": {"path": "out/plugins/it.so"}})
    run("cmake", "--install", tmp_path / "out")
    installed = library_folder(prefix) / "weft" / "plugins" / "it.so"
    try:
        assert "/it" in check(prefix, tmp_path, {"plugin.it": {"path": "it.so"}})
    finally:
        installed.unlink()


CPP = """
#include <weft.hpp>
#include <string>
#include <vector>
static weft_status it(weft_ctx *ctx, void *)
{
    std::vector<std::string> words{"from", "C++"};
    return weft_reply_text(ctx, 200, words.at(1).c_str());
}
static weft_status init(weft_host *host, void **) { return weft_route(host, "GET", "/it", it); }
WEFT_PLUGIN("it", "1.0", init, nullptr, nullptr);
"""


def test_a_plugin_in_cpp(prefix, tmp_path):
    """Its one symbol is all that it exports, though C++ would export its templates."""
    if shutil.which("c++") is None:
        pytest.skip("c++ is not installed")
    (tmp_path / "it.cc").write_text(CPP)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(it CXX)\nset(CMAKE_CXX_STANDARD 20)\n"
        "find_package(weft REQUIRED)\nweft_plugin(it it.cc)\n"
        "target_link_options(it PRIVATE -static-libstdc++)\n")
    run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "out")
    made = tmp_path / "out" / "plugins" / "it.so"
    exported = run("nm", "-D", "--defined-only", made)
    assert [line.split()[-1] for line in exported.splitlines()] == ["weft_plugin_1"]
    assert "/it" in check(prefix, tmp_path, {"plugin.it": {"path": made}})
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(library_folder(prefix) / "pkgconfig")}
    found = run("pkg-config", "--variable=pluginmap", "weft", env=env).strip()
    assert os.path.isfile(found)


# A test that fails where the kit is not what it should be, and a plugin for it.
TESTED = """
#include <weft.h>
static weft_status it(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_sleep(ctx, 60000)));
    return weft_reply_text(ctx, 200, "late");
}
static weft_status init(weft_host *host, void **self)
{
    static const weft_route_options slow = {sizeof slow, 0, 90000, 0, 0};
    (void)self;
    return weft_route_with(host, "GET", "/it", it, NULL, &slow);
}
WEFT_PLUGIN("it", "1.0", init, NULL, NULL);
"""
TEST = """
#include <stdio.h>
#include <weft_test.h>
int main(void)
{
    weft_test *t = START;
    weft_test_is(weft_test_get(t, "/it"), 200, "late");
    printf("after %llu ms\\n", (unsigned long long)weft_test_now_ms(t));
    return weft_test_end(t);
}
"""


def is_a_test(program):
    """It passes, and a minute of its time is none of ours."""
    assert run(program) == "after 60000 ms\n"


def test_a_test_with_pkg_config(prefix, tmp_path):
    """With the plugin's sources in it, and with its shared object."""
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(library_folder(prefix) / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "weft-test", env=env).split()
    assert str(place.ROOT) not in " ".join(flags)
    (tmp_path / "it.c").write_text(TESTED)
    (tmp_path / "test.c").write_text(TEST)
    run("cc", "-DSTART=weft_test_start(NULL)", "test.c", "it.c", *flags, "-o", "linked", cwd=tmp_path)
    is_a_test(tmp_path / "linked")
    run("cc", *run("pkg-config", "--cflags", "--libs", "weft", env=env).split(), "it.c", "-o", "it.so", cwd=tmp_path)
    run("cc", f'-DSTART=weft_test_load("{tmp_path}/it.so", NULL)', "test.c", *flags, "-o", "loaded", cwd=tmp_path)
    is_a_test(tmp_path / "loaded")


def test_a_test_with_cmake(prefix, tmp_path):
    (tmp_path / "it.c").write_text(TESTED)
    (tmp_path / "test.c").write_text(TEST)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(it C)\nenable_testing()\n"
        "find_package(weft 0.1 REQUIRED)\nweft_plugin(it it.c)\n"
        "weft_plugin_test(linked test.c it.c)\n"
        "target_compile_definitions(linked PRIVATE START=weft_test_start\\(NULL\\))\n"
        "weft_plugin_test(loaded test.c PLUGIN it)\n"
        "target_compile_definitions(loaded PRIVATE START=weft_test_load\\(WEFT_PLUGIN_FILE,NULL\\))\n")
    run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "out")
    is_a_test(tmp_path / "out" / "linked")
    is_a_test(tmp_path / "out" / "loaded")
    run("ctest", "--test-dir", tmp_path / "out")


def test_the_readmes_test(prefix, tmp_path):
    """It passes with the plugin that it is for, and would not if the plugin were wrong."""
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(library_folder(prefix) / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "weft-test", env=env).split()
    blocks = (block.split("```")[0] for block in (place.ROOT / "README.md").read_text().split("```c\n")[1:])
    lines, = (block for block in blocks if "weft_test.h" in block)
    assert len([line for line in lines.splitlines() if line.strip(" {}")]) <= 20
    books = place.ROOT / "plugins" / "books"
    (tmp_path / "test_books.c").write_text(lines)
    for name in ("books.c", "common.c", "common.h"):
        (tmp_path / name).write_text((books / name).read_text())
    command = ["cc", "-Wall", "-Wextra", "-Werror", "test_books.c", "books.c", "common.c", *flags, "-ljansson", "-o"]
    run(*command, "right", cwd=tmp_path)
    run(tmp_path / "right")
    handler = (tmp_path / "books.c").read_text()
    assert "weft_reply_row(ctx, 200, found)" in handler
    (tmp_path / "books.c").write_text(handler.replace("weft_reply_row(ctx, 200, found)", "weft_reply_row(ctx, 201, found)"))
    run(*command, "wrong", cwd=tmp_path)
    done = subprocess.run([tmp_path / "wrong"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "GET /books/1: answered 201" in done.stderr, done.stderr
