"""Waiting for what will be."""
import time


def wait_until(condition, timeout=15, what=None):
    """Waits until condition() is true, and returns what it answered."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {timeout} s: {what or condition}"
        time.sleep(0.02)
