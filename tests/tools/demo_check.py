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


def is_account_list(answer):
    accounts = answer.json()
    if not isinstance(accounts, list) or len(accounts) != 3:
        return "an array of three accounts"
    return None if sum(account["balance"] for account in accounts) == 3000 else "3000 in all of them"


def is_transfer(answer):
    transfer = answer.json()
    wanted = {"source": 1, "target": 2, "amount": 30}
    good = isinstance(transfer, dict) and wanted.items() <= transfer.items()
    return None if good else f"a transfer with {wanted}"


def is_list_of_transfers(answer):
    transfers = answer.json()
    amounts = [transfer.get("amount") for transfer in transfers] if isinstance(transfers, list) else []
    return None if amounts == [30, 5, 7] else f"the amounts 30, 5 and 7, not {amounts}"


def is_csv_of_transfers(answer):
    lines = answer.body.decode().splitlines()
    good = lines[0] == "id,at,source,target,amount" and [line.rsplit(",", 3)[1:] for line in lines[1:]] == [
        ["1", "2", "30"], ["1", "2", "5"], ["3", "1", "7"]]
    return None if good else f"a head and three transfers, not {answer.body[:200]!r}"


FORM = "application/x-www-form-urlencoded"
BANK = [
    ("GET", "/bank", None, 200, lambda answer: None if b"EventSource" in answer.body else "a page with EventSource"),
    ("POST", "/bank/transfers", (FORM, "from=1&to=2&amount=30"), 201, is_transfer),
    ("POST", "/bank/transfers", (FORM, "from=1&to=2&amount=5000"), 409, is_problem),
    ("POST", "/bank/transfers", (FORM, "from=1&to=1&amount=100"), 409, is_problem),
    ("POST", "/bank/transfers", (FORM, "from=1&to=2&amount=much"), 400, is_problem),
    ("POST", "/bank/transfers", (FORM, "from=1"), 400, is_problem),
    ("POST", "/bank/transfers.csv", ("text/csv", "1,2,5\n3,1,7\n"), 201, is_object),
    ("POST", "/bank/transfers.csv", ("text/csv", "1,2,5\n3,1\n"), 400, is_problem),
    ("POST", "/bank/transfers.csv", ("text/csv", "1,2,5\n3,1,7000\n"), 409, is_problem),
    ("POST", "/bank/transfers.csv", ("text/csv", "1,2,5\n3,3,7\n"), 409, is_problem),
    ("GET", "/bank/transfers", None, 200, is_list_of_transfers),
    ("GET", "/bank/transfers.csv", None, 200, is_csv_of_transfers),
    ("GET", "/bank/accounts", None, 200, is_account_list),
]

REQUESTS = [
    ("GET", "/hello", None, 200, is_text(b"Hello, World!\n")),
    ("HEAD", "/hello", None, 200, is_text(b"")),
    ("POST", "/echo", "anything at all", 200, is_text(b"anything at all")),
    *library(""),
    *library("/then"),
    *BANK,
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
    """One request on a connection of its own. `body` is JSON, or a pair of its type and itself."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    kind, body = body if isinstance(body, tuple) else ("application/json", body)
    headers = {} if body is None else {"Content-Type": kind}
    try:
        connection.request(method, path, body=body, headers=headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def live_fault(address):
    """A transfer is an event for who listens, whichever worker has either. What was wrong, or None."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/bank/events")
        events = connection.getresponse()
        if events.readline() != b"event: anew\n":
            return "an event anew first"
        ask(address, "POST", "/bank/transfers", (FORM, "from=2&to=3&amount=1"))
        while (line := events.readline()) != b"event: transfer\n":
            if not line:
                return "an event of the transfer, not the end"
        transfer = json.loads(events.readline().partition(b": ")[2])
        return None if transfer["amount"] == 1 else f"the amount 1, not {transfer}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"an event of the transfer, but: {error!r}"
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
    fault = live_fault(address)
    faults += fault is not None
    print(f"GET    {'/bank/events':<32} 200  {'ok' if fault is None else 'expected ' + fault}", flush=True)
    print(f"{len(REQUESTS) + 1} requests, {faults} not as expected")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
