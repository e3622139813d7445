"""Goal: random trees of ops, groups, hedges, children, spawned and offloaded work, through a real plugin in the real
process, while clients come, leave and reset at random: what weft.h promises holds at each step (tests/plugins/trees.c
checks it), and in the end nothing is left. Random, from a seed that is printed: WEFT_SEED repeats the choices."""
import re

import pytest

from support import place, soak
from support.visitors import storm
from support.wait import wait_until

STORM_S = 600 if soak.IS_ON else 5


@pytest.mark.limit(STORM_S + 100)
def test_random_trees_with_clients_that_leave(start_weft, capsys):
    seed = soak.seed()
    with capsys.disabled():
        print(f"\nWEFT_SEED={seed}")
    host = start_weft({"plugin.trees": {"path": place.BUILD / "tests/plugins/trees.so", "seed": seed}})
    worker = host.workers()
    answers = storm(host, [("GET", "/trees/grow", None), ("GET", "/trees/hasty", None)], seed, STORM_S)
    wait_until(lambda: balance(host)["trees"] == 0, 20)
    found = balance(host)
    steps = found.pop("steps")
    assert found == {"trees": 0, "ears": 0, "cleanups": 0, "broken": "-"}, f"WEFT_SEED={seed}"
    assert host.workers() == worker and answers > 100 and steps > 2000
    host.stop()
    unexpected = re.search(r"level=error.*msg=(?!\"weft_(await|op_status|reply)\(\): ).*", host.log)
    assert unexpected is None, f"WEFT_SEED={seed}: {unexpected.group()}"


def balance(host):
    text = host.get("/trees/balance").body.decode()
    numbers = {name: int(value) for name, value in re.findall(r"(\w+) (-?\d+)", text.split(" broken ")[0])}
    return {**numbers, "broken": text.split(" broken ")[1]}
