#!/usr/bin/python3
"""demo_check.py - requests every route of the demo once: demo_check.py http://127.0.0.1:8080

Prints one line a request (method, path, status, ok or what was expected instead) and exits 0 where all
were right, else 1.
"""
import http.client
import json
import sys
import urllib.parse

TIMEOUT_S = 15
BOOK = {"title": "Emma", "author": "Jane Austen"}


def is_text(wanted):
    return lambda answer: None if answer.body == wanted else f"the body {wanted!r}, not {answer.body[:80]!r}"


def is_problem(answer):
    kind = answer.headers.get("content-type", "")
    if not kind.startswith("application/problem+json"):
        return f"application/problem+json, not {kind or 'no type'}"
    return None if isinstance(answer.json(), dict) else "a JSON object"


def is_book(answer):
    book = answer.json()
    if not isinstance(book, dict) or not {"id", "title", "author"} <= set(book):
        return "a book with id, title and author"
    kinds = isinstance(book["id"], int) and isinstance(book["title"], str) and isinstance(book["author"], str)
    return None if kinds else "a number as id, strings as title and author"


def is_list_of_books(answer):
    books = answer.json()
    if not isinstance(books, list) or len(books) < 10:
        return "an array of at least ten books"
    ids = [book.get("id") for book in books]
    return None if ids == sorted(ids) else "the books sorted by id"


def is_object(answer):
    return None if isinstance(answer.json(), dict) else "a JSON object"


def is_summary(answer):
    summary = answer.json()
    good = (isinstance(summary, dict) and isinstance(summary.get("books"), int)
            and isinstance(summary.get("quote"), dict))
    return None if good else 'an object {"books": N, "quote": {...}}'


def is_new_book(mount):
    def check(answer):
        fault = is_book(answer)
        if fault:
            return fault
        wanted = f"{mount}/books/{answer.json()['id']}"
        location = urllib.parse.urlsplit(answer.headers.get("location", "")).path
        return None if location == wanted else f"Location: {wanted}, not {location or 'none'}"
    return check


def allows(method):
    def check(answer):
        allowed = [word.strip() for word in answer.headers.get("allow", "").split(",")]
        return None if method in allowed else f"an Allow with {method}, not {allowed}"
    return check


def library(mount):
    """The routes of plugins/books and of plugins/books_then, which answer alike."""
    return [
        ("GET", mount + "/books", None, 200, is_list_of_books),
        ("GET", mount + "/books/1", None, 200, is_book),
        ("GET", mount + "/books/999999", None, 404, is_problem),
        ("GET", mount + "/books/one", None, 400, is_problem),
        ("POST", mount + "/books", json.dumps(BOOK), 201, is_new_book(mount)),
        ("POST", mount + "/books", "{", 400, is_problem),
        ("POST", mount + "/books", '{"title": ""}', 400, is_problem),
        ("GET", mount + "/quote", None, 200, is_object),
        ("POST", mount + "/books/import", "", 201, is_new_book(mount)),
        ("POST", mount + "/books/1/announce", "", 200, is_object),
        ("POST", mount + "/books/999999/announce", "", 404, is_problem),
        ("GET", mount + "/summary", None, 200, is_summary),
    ]


REQUESTS = [
    ("GET", "/hello", None, 200, is_text(b"Hello, World!\n")),
    ("HEAD", "/hello", None, 200, is_text(b"")),
    ("POST", "/echo", "anything at all", 200, is_text(b"anything at all")),
    *library(""),
    *library("/then"),
    ("GET", "/nowhere", None, 404, None),
    ("POST", "/hello", "", 405, allows("GET")),
    ("DELETE", "/books", None, 405, allows("POST")),
]


class Answer:
    """What came back: status, headers (names in lower case) and body."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        """The body's value, or None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def ask(address, method, path, body):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, body=body, headers=headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def verdict(address, method, path, body, status, check):
    """The status (or "none"), and what was wrong with the answer or None."""
    try:
        answer = ask(address, method, path, body)
    except (OSError, http.client.HTTPException) as error:
        return "none", f"{status}, but: {error!r}"
    if answer.status != status:
        return answer.status, f"{status}; the answer: {answer.body[:200]!r}"
    return answer.status, check(answer) if check else None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    address = urllib.parse.urlsplit(sys.argv[1]).netloc
    faults = 0
    for method, path, body, status, check in REQUESTS:
        found, fault = verdict(address, method, path, body, status, check)
        faults += fault is not None
        print(f"{method:<6} {path:<32} {found}  {'ok' if fault is None else 'expected ' + fault}", flush=True)
    print(f"{len(REQUESTS)} requests, {faults} not as expected")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
