"""Buckets of S3 in a thread: moto's server on the loopback, with faults, and with the signatures of reads checked.

moto compares and writes in two steps, between which another thread may write; real buckets compare and write in one. So one
request is worked on at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

KEY, SECRET = "AKIAEXAMPLE", "wJalr/SECRET+KEY"
ACCOUNT = "123456789012"
REGION = "eu-central-1"
_NUMBERS = count(1)
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{} is what was asked with</Message></Error>'
)


class Buckets:
    """`behave(method, path)` names what is done to a request; "" for nothing. `asked`: (method, path, headers) of each.
    `working`: requests under way.

    `503:SlowDown`: a status with S3's code, `307:http://…` one with an address, and nothing is done; `lost`: it is done, and the connection cut; `cut`: the same
    with nothing done; `blind`: it is done whatever its conditions are; `hang`: it is done when `release` is set, and the
    connection cut; `drop`: the same with nothing done.
    """

    def __init__(self) -> None:
        self.behave: Callable[[str, str], str] = lambda method, path: ""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.release = threading.Event()
        self.check_signatures = True
        self.url = ""
        self.working = 0
        self._one, self._counting = threading.Lock(), threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def fresh(self) -> str:
        """The name of a bucket that is empty; nothing goes wrong from now on."""
        self.behave = lambda method, path: ""
        self.release.clear()
        self.asked.clear()
        name = f"models-{next(_NUMBERS)}"
        self._put(f"/{name}", b"")
        return name

    def publish(self, bucket: str) -> None:
        """All may read it."""
        anybody = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"]}
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        policy = {"Version": "2012-10-17", "Statement": [anybody | {"Resource": resources}]}
        self._put(f"/{bucket}?policy", json.dumps(policy).encode())

    def _put(self, path: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        connection.request("PUT", path, body=body)
        assert connection.getresponse().status in (200, 204)
        connection.close()
        self.asked.clear()

    def overwrite(self, bucket: str, key: str, data: bytes) -> None:
        """Without a request."""
        s3_backends[ACCOUNT]["aws"].put_object(bucket, key, data)

    def remove(self, bucket: str, key: str) -> None:
        """Without a request."""
        s3_backends[ACCOUNT]["aws"].delete_object(bucket, key)

    def age(self, bucket: str, key: str, seconds: float, *, tag: str = "") -> None:
        """The object was written so much earlier. tag: that it has from now on, in place of its content's digest."""
        found = s3_backends[ACCOUNT]["aws"].get_object(bucket, key)
        assert found is not None
        found.last_modified -= timedelta(seconds=seconds)
        found._etag = tag or found._etag

    def count(self, method: str) -> int:
        return sum(each[0] == method for each in self.asked)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._counting:
            self.working += 1
        try:
            return self._answer(environ, start_response)
        finally:
            with self._counting:
                self.working -= 1

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode()
        headers = {
            name[5:].replace("_", "-").title(): text for name, text in environ.items() if name.startswith("HTTP_")
        }
        self.asked.append((method, path, headers))
        what, _, code = self.behave(method, path).partition(":")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if what in ("hang", "drop"):
            self.release.wait(60)
        if what == "blind":
            environ = {
                name: text for name, text in environ.items() if name not in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")
            }
        unsigned = method == "GET" and "Authorization" not in headers and not is_signed(environ)
        if unsigned and self.check_signatures and not what.isdigit():
            what, code = "403", "SignatureDoesNotMatch"
        if what.isdigit():
            known = [("Content-Type", "application/xml"), ("Retry-After", "7")]
            start_response(f"{what} No", [*known, *([("Location", code)] if "/" in code else [])])
            return [_ERROR.format(code, SECRET).encode()]
        with self._one:
            done = b"".join(self._moto(environ, start_response)) if what not in ("cut", "drop") else b""
        if what in ("lost", "cut", "hang", "drop"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError  # the server says nothing more
        return [done]


def is_signed(environ: dict[str, Any]) -> bool:
    """Whether the query has the signature of the keys for this request.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    given = query.pop("X-Amz-Signature", "")
    _, _, scope = query.get("X-Amz-Credential", "").partition("/")
    canonical = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
    path = environ["REQUEST_URI"].partition("?")[0]
    request = "\n".join(["GET", path, canonical, f"host:{environ['HTTP_HOST']}\n", "host", "UNSIGNED-PAYLOAD"])
    hashed = hashlib.sha256(request.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", query.get("X-Amz-Date", ""), scope, hashed])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.new(key, to_sign.encode(), "sha256").hexdigest(), given)


@contextmanager
def buckets() -> Iterator[Buckets]:
    """A server that ends with the block."""
    serving = Buckets()
    log = logging.getLogger("werkzeug")
    level, log.level = log.level, logging.ERROR
    server = make_server("127.0.0.1", 0, serving, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    serving.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield serving
    finally:
        serving.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
        log.level = level
