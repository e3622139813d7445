"""Goal: what is built is built as it should be. Both compilers take every file without a warning, the
release is hardened, and one who lacks a library is told which package to install."""
import concurrent.futures
import json
import os
import shlex
import shutil
import subprocess

import pytest

from support import place


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **more)


def needs(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def clang_command(entry):
    """The command that compiled a file with gcc, for clang, which only looks."""
    words = shlex.split(entry["command"])
    output = words.index("-o")
    return ["clang", "-fsyntax-only", *words[1:output], *words[output + 2:]]


@pytest.mark.limit(240)
def test_clang_finds_nothing():
    needs("clang")
    entries = json.loads((place.BUILD / "compile_commands.json").read_text())
    ours = [entry for entry in entries if entry["file"].startswith(str(place.ROOT)) and entry["file"].endswith(".c")]
    assert len(ours) > 10
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda entry: run(*clang_command(entry), cwd=entry["directory"]), ours)
        faults = [done.stderr for done in found if done.returncode != 0]
    assert not faults, "\n".join(faults)


def test_missing_libraries_are_named_with_their_packages(tmp_path):
    hidden = "/usr/include;/usr/include/postgresql;/usr/share/llhttp"
    done = run("cmake", "-G", "Ninja", "-S", place.ROOT, "-B", tmp_path, f"-DCMAKE_IGNORE_PATH={hidden}")
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert "weft needs what is not installed here: apt-get install" in text
    for package in ["libinih-dev", "libc-ares-dev", "libpq-dev", "libssl-dev", "libcmocka-dev", "node-llhttp"]:
        assert package in text


def test_program_is_hardened_and_exports_nothing():
    weft = place.BUILD / "weft"
    header = run("readelf", "-hdW", weft).stdout
    assert "DYN (Position-Independent Executable file)" in header
    assert "BIND_NOW" in header or "NOW" in header
    assert "GNU_RELRO" in run("readelf", "-lW", weft).stdout
    exported = run("nm", "-D", "--defined-only", weft).stdout
    assert "weft_" not in exported


def test_every_plugin_exports_its_descriptor_only():
    plugins = list((place.BUILD / "plugins").glob("*.so"))
    assert plugins
    for plugin in plugins:
        names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", plugin).stdout.splitlines()]
        # The sanitizers of the dev preset export names of their own, which begin with two underscores.
        assert [name for name in names if not name.startswith("__")] == ["weft_plugin_1"], plugin
