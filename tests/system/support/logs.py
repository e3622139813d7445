"""Lines of the host's two logs, taken apart."""
import re

_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPE = re.compile(r'\\(x[0-9a-f]{2}|.)')
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}

# What every line of the access log has.
ACCESS_KEYS = ["time", "id", "peer", "method", "path", "route", "plugin", "status", "bytes", "total_ms", "queue_ms",
               "pg_ms", "call_ms", "why"]


def _plain(match):
    code = match.group(1)
    return chr(int(code[1:], 16)) if len(code) == 3 else _LETTERS.get(code, code)


def fields(line):
    """A key=value line as a dict of texts, in the line's order."""
    found = {}
    for key, value in _PAIR.findall(line):
        found[key] = _ESCAPE.sub(_plain, value[1:-1]) if value.startswith('"') else value
    return found


def is_access(found):
    """Is it a line of the access log?"""
    return "why" in found and "total_ms" in found


def accesses(text, **wanted):
    """The lines of the access log in `text` whose fields are as wanted: accesses(log, path="/hello", status=200)."""
    wanted = {key: str(value) for key, value in wanted.items()}
    lines = (fields(line) for line in text.splitlines())
    return [line for line in lines if is_access(line) and wanted.items() <= line.items()]
