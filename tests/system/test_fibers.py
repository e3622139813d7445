"""Goal: the switch of stacks is right wherever it may run: in assembly for x86-64 and aarch64, by ucontext elsewhere,
in a build with _FORTIFY_SOURCE; and valgrind and gdb understand it. It is tests/unit/task/test_fiber.c each time."""
import re
import shutil
import subprocess

import pytest

from support import place, plugin

SOURCES = [place.ROOT / path for path in (
    "tests/unit/task/test_fiber.c", "tests/lib/dies.c", "framework/task/fiber.c", "framework/task/fiber_switch.S",
    "framework/task/fiber_switch.c", "framework/base/check.c", "framework/base/clock.c", "framework/base/log.c",
    "framework/base/mem.c")]
INCLUDES = [f"-I{place.ROOT / folder}" for folder in ("tests/tools/small", "tests", "framework")]
WARNINGS = ["-std=c17", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror"]

AARCH64 = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
UCONTEXT = "-DWEFT_FIBER_UCONTEXT"


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*command, timeout=100):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          errors="replace", check=False)


def build(folder, compiler, *options):
    """The unit test of fibers as a program."""
    made = folder / "fibers"
    done = run(compiler, *WARNINGS, *options, *INCLUDES, *SOURCES, "-lm", "-o", made)
    assert done.returncode == 0, done.stderr
    return made


def passes(*command):
    done = run(*command)
    assert done.returncode == 0 and re.search(r"^\d\d passed$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    return done


@pytest.mark.parametrize("options", [["-O2"], ["-O0"], ["-O2", UCONTEXT]], ids=" ".join)
def test_aarch64(tmp_path, options):
    needs(AARCH64, EMULATOR)
    made = build(tmp_path, AARCH64, "-static", *options)
    assert "AArch64" in run("readelf", "-h", made).stdout
    passes(EMULATOR, made)


@pytest.mark.parametrize("options", [["-O2"], ["-O3", "-flto"], ["-O2", UCONTEXT]], ids=" ".join)
def test_fortified(tmp_path, options):
    """Its checks of longjmp() and of copies know nothing of fibers, and find nothing."""
    made = build(tmp_path, "cc", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", *options)
    assert "__longjmp_chk" in run("nm", "-D", made).stdout
    passes(made)


@pytest.mark.parametrize("options", [[], [UCONTEXT]], ids=["assembly", "ucontext"])
def test_valgrind_follows(tmp_path, options):
    needs("valgrind")
    made = build(tmp_path, "cc", "-O1", *options)
    done = passes("valgrind", "--error-exitcode=9", "--trace-children=no", made)
    assert "switching stacks" not in done.stderr, done.stderr
    assert re.search(r"ERROR SUMMARY: 0 errors", done.stderr), done.stderr


@pytest.mark.parametrize("options", ["-O0", "-O2"])
def test_gdb_sees_a_stack_to_its_end(tmp_path, options):
    needs("gdb")
    made = build(tmp_path, "cc", options)
    done = run("gdb", "-batch", "-nx", "-ex", "break play_backtrace", "-ex", "run", "-ex", "echo [", "-ex", "bt",
               "-ex", "echo ]", made)
    frames = re.search(r"\[(#0.*?)\]", done.stdout, re.DOTALL)
    assert frames is not None, done.stdout + done.stderr
    found = re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(", frames.group(1), re.MULTILINE)
    assert found == ["play_backtrace", "run", "fiber_enter"], frames.group(1)
    assert "corrupt" not in done.stdout + done.stderr


def test_a_plugin_for_aarch64(tmp_path):
    """Its note is the same, and a host on another machine says which it is for."""
    needs(AARCH64)
    source = tmp_path / "it.c"
    made = tmp_path / "it.so"
    source.write_text(plugin.answering("x"))
    done = run(AARCH64, *plugin.FLAGS, "-Wall", "-Werror", f"-I{place.ROOT / 'include'}", source, "-o", made)
    assert done.returncode == 0, done.stderr
    notes = run("readelf", "-n", made).stdout
    assert re.search(r"weft +0x00000008", notes), notes
    done = run(place.BUILD / "weft", "check", made)
    assert done.returncode == 1 and "machine" in done.stderr, done.stderr
