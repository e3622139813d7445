"""Goal: the worker after one that died is the same program, tells its requests apart from the other's, and where
there can be none, the others serve its clients."""
import json
import os
import re
import shutil
import signal

from support import place
from support.host import run_weft


def kill_first_worker(host):
    os.kill(host.workers()[0], signal.SIGKILL)


def own_plugin(tmp_path):
    """A plugin's file that the test may remove."""
    return shutil.copy(place.BUILD / "plugins" / "hello.so", tmp_path / "hello.so")


def test_no_two_requests_have_one_id_though_workers_die(start_weft):
    host = start_weft({"plugin.hello": {"path": "hello.so"}})
    for life in range(3):
        assert host.get("/hello").status == 200
        host.wait_log(r"path=/hello ", count=life + 1)
        if life < 2:
            kill_first_worker(host)
            host.wait_log(r"is back as process", count=life + 1)
    ids = re.findall(r"\bid=(\w+) .*path=/hello ", host.log)
    assert len(ids) == 3 and len(set(ids)) == 3, ids


def test_the_plugin_is_rebuilt_meanwhile(start_weft, tmp_path):
    plugin = own_plugin(tmp_path)
    host = start_weft({"plugin.hello": {"path": plugin}})
    os.unlink(plugin)
    kill_first_worker(host)
    host.wait_log("is back as process")
    assert host.get("/hello").status == 200


def test_others_serve_where_a_worker_cannot_be_started_again(start_weft, tmp_path):
    plugin = own_plugin(tmp_path)
    host = start_weft({"server": {"workers": 2}, "plugin.hello": {"path": plugin}})
    host.wait_log("serving: 2 workers")
    for copy in host.folder.glob("run/*/1/hello.so"):
        copy.unlink()
    os.unlink(plugin)
    kill_first_worker(host)
    host.wait_log("is not started again")
    for _ in range(20):
        assert host.get("/hello", timeout=5).status == 200
    told = json.loads(run_weft("status", "-c", host.config, "--json").stdout)["slots"][0]
    assert re.match(r"could not start: .*hello\.so cannot be opened: No such file", told["why"]), told
    assert "could not start: " in run_weft("status", "-c", host.config).stdout
