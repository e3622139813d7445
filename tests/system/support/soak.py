"""The short and the long form of a random test, and its seed: what tests/lib/soak.h is for the tests in C."""

import os
import random

IS_ON = os.environ.get("WEFT_SOAK", "0") not in ("", "0")


def seed():
    """WEFT_SEED; else the same in each short run, and another one in each soak. The test prints it."""
    fresh = random.SystemRandom().randrange(1, 2**32) if IS_ON else 1
    return int(os.environ.get("WEFT_SEED") or fresh)
