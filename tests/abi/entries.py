"""entries.py - what the headers say of each function and of each entry of the tables, for tests that go through all
of them: one that is appended is gone through, too, without being listed anywhere."""
import re

import freeze

INCLUDE = freeze.CURRENT
# Handles that are addresses: the host cannot tell a wrong one.
ADDRESSES = ["weft_inbox"]


class Function:
    """An inline function of a header: its name, the comment before it, its section's heading, and its type."""

    def __init__(self, text, match):
        before = re.sub(r"WEFT_PRINTF\(\d, \d\)\n$", "", text[:match.start()])
        comment = re.search(r"/\*((?:(?!\*/).)*)\*/\n$", before, re.DOTALL)
        headings = re.findall(r"/\* ---- ((?:(?!\*/).)*?)-*\s*\*/", before, re.DOTALL)
        self.result, self.name, self.parameters = (part.strip() for part in match.groups())
        self.comment = " ".join(comment.group(1).replace("\n *", " ").split()) if comment else ""
        self.told = f"{' '.join(headings[-1].split()) if headings else ''} {self.comment}"

    @property
    def thread(self):
        """init, loop or any; None: it does not say."""
        found = re.search(r"\[(init|loop|any)\]$", self.comment)
        return found.group(1) if found else None


def functions_of(name):
    text = re.sub(r'#ifdef __cplusplus\n\} /\* extern.*', "", (INCLUDE / name).read_text(), flags=re.DOTALL)
    found = [Function(text, match) for match in re.finditer(
        r"^static inline (?:WEFT_MUST_USE )?([^;{}()]*?)\b(weft_\w+)(\([^{]*?\))\s*\{", text, re.MULTILINE)]
    return [function for function in found if "__" not in function.name]


class Parameter:
    """A parameter of an entry: its type and, where it has one, its name."""

    def __init__(self, text):
        named = re.match(r"^(.+?(?:\*|\s))\s*([a-z_]\w*)$", text)
        self.type, self.name = (named.group(1).strip(), named.group(2)) if named else (text, "")


class Entry:
    """An entry of a table: `call` is how C calls it, the name is what the log may say, too."""

    def __init__(self, table, name, result, parameters, wrappers):
        self.table, self.name, self.result = table, name, result
        self.parameters = [Parameter(part) for part in parameters if part != "void"]
        self.wrappers = wrappers
        self.call = f"weft__api->{table}->{name}"

    @property
    def thread(self):
        threads = {THREADS[wrapper] for wrapper in self.wrappers}
        assert len(threads) == 1, f"{self.call}: {self.wrappers} have {threads}"
        return threads.pop()

    def __repr__(self):
        return f"{self.table}.{self.name}"


def split(text):
    """The parts of a list of parameters, none of which has a comma in it."""
    return [" ".join(part.split()) for part in text.split(",")]


def all_entries():
    """Each entry of each table, in its order; the functions that stand for it are named behind it."""
    text = (INCLUDE / "weft_tables.h").read_text()
    found = []
    for table, body in re.findall(r"typedef struct weft_(\w+)_api \{(.*?)\n\} weft_\1_api;", text, re.DOTALL):
        parts = re.findall(r"(\w[\w\s]*?\*?\s*)\(\*(\w+)\)\(([^;]*)\);\s*/\*(.*?)\*/", body, re.DOTALL)
        for result, name, parameters, comment in parts:
            found.append(Entry(table, name, " ".join(re.sub(r"/\*.*?\*/", "", result).split()), split(parameters),
                               re.findall(r"(weft_\w+)\(\)", comment)))
    return found


def declared(text):
    """All handles (types that nobody defines), all structs with a size, and the types of functions."""
    names = set(re.findall(r"^typedef struct (weft_\w+) \1;", text, re.MULTILINE))
    defined = {name: [part for part, _ in members] for name, members in freeze.structs(text)}
    functions = {name: (result.strip(), split(parameters)) for result, name, parameters in re.findall(
        r"^typedef (\w+ \*?)(weft_\w+)\(([^;]*)\);", text, re.MULTILINE)}
    return {name for name in names if name not in defined}, defined, functions


FUNCTIONS = [function for name in freeze.HEADERS for function in functions_of(name)]
THREADS = {function.name: function.thread for function in FUNCTIONS}
HANDLES, STRUCTS, CALLBACKS = declared(freeze.without_comments(freeze.text_of(INCLUDE)))
ENTRIES = all_entries()
