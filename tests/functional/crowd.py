"""Clients that open a connection for each request, one request after the other. Standard library only: it is run by other
Pythons, too, as a program: `crowd.py PORT PATH BODY` asks until its standard input ends, and prints how often each outcome was.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CLIENTS = 8
PATIENCE_S = 60.0


class Crowd:
    """`outcomes`: how often each status came, or the name of an error."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        self._port, self._path, self._body = port, path, body
        self.outcomes: Counter[str] = Counter()
        self._ends = threading.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._ends.set()
            for each in threads:
                each.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            self.outcomes[self._once()] += 1

    def _once(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("POST", self._path, self._body)
            answer = connection.getresponse()
            answer.read()
            return str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()


def main(port: str, path: str, body: str) -> None:
    """Until standard input ends."""
    crowd = Crowd(int(port), path, body.encode())
    with crowd.asking():
        sys.stdin.read()
    print(json.dumps(crowd.outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
