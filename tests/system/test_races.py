"""Goal: what several threads touch has no data race that ThreadSanitizer could find: helper threads, offloaded work and
fibers, in their own unit tests; in the long form the plugin's side of it, too, from a build of the whole."""
import os
import subprocess

import pytest

from support import place, soak

ROOMS = ["base", "loop", "observe", "task"]
LIBRARY = ["dies.c", "loop_driver.c", "skip.c", "task_world.c", "temp_dir.c"]
CC = ["cc", "-std=c17", "-D_GNU_SOURCE", '-DWEFT_VERSION="0"', "-O1", "-g", "-fsanitize=thread",
      f"-I{place.ROOT / 'framework'}", f"-I{place.ROOT / 'tests'}"]
LONG = ["test_plugin_abi_core", "test_plugin_rules", "test_plugin_plugins", "test_task_trees"]


def run(*command, timeout=100, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          check=False, **more)


def finds_nothing(program, timeout=100):
    done = run(program, timeout=timeout, env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "WEFT_SOAK": ""})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert "PASSED" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The rooms below http, compiled with ThreadSanitizer."""
    folder = tmp_path_factory.mktemp("objects")
    sources = [path for room in ROOMS for path in sorted((place.ROOT / "framework" / room).glob("*.[cS]"))]
    sources = [path for path in sources if path.name != "fiber_switch.c"]     # the assembly has its name, too
    sources += [place.ROOT / "tests/lib" / name for name in LIBRARY]
    done = run(*CC, "-c", *sources, cwd=folder)
    assert done.returncode == 0, done.stderr
    return sorted(folder.glob("*.o"))


@pytest.mark.parametrize("name", ["loop/test_helper", "task/test_offload", "task/test_fiber"])
def test_rooms(objects, tmp_path, name):
    made = tmp_path / "it"
    done = run(*CC, place.ROOT / f"tests/unit/{name}.c", *objects, "-lcmocka", "-lm", "-o", made)
    assert done.returncode == 0, done.stderr
    finds_nothing(made)


def test_a_race_is_found(tmp_path):
    """The sanitizer works here."""
    source, made = tmp_path / "race.c", tmp_path / "race"
    source.write_text("#include <pthread.h>\nint n;\nstatic void *add(void *data) { n++; return data; }\n"
                      "int main(void)\n{\n    pthread_t t;\n    pthread_create(&t, 0, add, 0);\n    n++;\n"
                      "    pthread_join(t, 0);\n    return 0;\n}\n")
    done = run(*CC, source, "-o", made)
    assert done.returncode == 0, done.stderr
    assert "data race" in run(made).stderr


def look_at_plugins(name):
    for command in (["cmake", "--preset", "tsan"], ["cmake", "--build", "--preset", "tsan", "--target", name]):
        done = run(*command, cwd=place.ROOT, timeout=2000)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finds_nothing(place.ROOT / "build/tsan/tests" / name, timeout=600)


if soak.IS_ON:
    test_plugins = pytest.mark.limit(3000)(pytest.mark.parametrize("name", LONG)(look_at_plugins))
