"""Clients of a bucket, and what their errors mean.

The library's errors have the answer's body in them and say little by their classes: a 409, which means "try again", comes as
"already exists". So their text is searched for the status and S3's code, and nothing else of it goes on.
The library cannot be told not to follow redirects. A PUT it does not follow, but for 303, which makes a GET of it. Listings and
deletions it does, without the signature, and never from https to http; whoever lists or deletes has read at the same endpoint
before, which refuses redirects to other hosts.
Source: https://github.com/apache/arrow-rs-object-store/pull/852, https://github.com/apache/arrow-rs-object-store/issues/603
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from sync.domain.errors import Missing, OperatorError, Refused, StoreError, Unreachable
from sync.stores.aws import Bucket

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

LONGEST = timedelta(days=1)
PASSING = (408, 409, 429)
COMPARED = 412
_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_KIND = re.compile(r"\bkind: (Connect|Timeout)\b")
_KINDS = {"Connect": "nobody answers", "Timeout": "no answer in time"}


class Failed(Exception):
    """A request that was not answered as wanted. status: 0 where no answer came; code: how S3 calls it."""

    def __init__(self, what: str, *, status: int = 0, code: str = "", text: str = "") -> None:
        super().__init__(what)
        self.what, self.status, self.code = what, status, code
        self.text = text or " ".join(filter(None, (str(status or ""), code)))

    @property
    def passing(self) -> bool:
        """May be otherwise in a moment."""
        return self.status == 0 or self.status >= 500 or self.status in PASSING

    @property
    def doubtful(self) -> bool:
        """A write may have been done all the same."""
        return self.passing and self.status not in (409, 429)

    def compared(self, *, tag: bool) -> bool:
        """Refused for what is, or is not, there. tag: a tag was expected, else nothing.

        No other answer will do: where a PUT is redirected with 303 the library asks the other host with GET, whose 304 says nothing.
        """
        return self.status == COMPARED or (tag and self.code == "NoSuchKey")

    def told(self, more: str = "") -> StoreError:
        text = f"{self.what}: {self.text}{more}"
        if self.status == 0:
            return Unreachable(text)
        return Missing(text) if self.status == 404 else Refused(text)


@contextmanager
def failures(what: str, *, told: bool = False) -> Iterator[None]:
    """Raises Failed for what the library raises in the block; as StoreError where `told`."""
    try:
        yield
    except TimeoutError:
        failure = Failed(what, text="no answer in time")
    except (BaseError, FileNotFoundError) as error:
        failure = _failed(what, str(error))
    else:
        return
    if told:
        raise failure.told() from None
    raise failure from None


def _failed(what: str, text: str) -> Failed:
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        return Failed(what, status=int(status[1]), code=code[1] if code else "")
    if "redirect" in text.partition("\n")[0]:
        return Failed(what, status=301, text="301: redirected; the bucket may be in another region")
    kind = _KIND.search(text)
    return Failed(what, text=_KINDS[kind[1]] if kind else "no answer, or one that makes no sense")


def client_of(bucket: Bucket, *, connect_s: float, total_s: float | None, retries: int) -> Client:
    """total_s: seconds for a request with its answer, None for whoever asks to say. Blocks. Raises OperatorError."""
    config: S3Config = {
        "conditional_put": "etag",
        "disable_bulk_delete": True,  # not every bucket has it
        "skip_signature": bucket.anonymous,
    }
    # To sign addresses there must be keys; of an anonymous one the signature is taken off again.
    keys = bucket.keys
    if bucket.anonymous or keys.access_key_id:
        config["access_key_id"] = keys.access_key_id or "anonymous"
        config["secret_access_key"] = keys.secret_access_key or "anonymous"
    if keys.session_token:
        config["session_token"] = keys.session_token
    if bucket.endpoint:
        config["endpoint"] = config["aws_endpoint_url_s3"] = bucket.endpoint
    if bucket.region:
        config["region"] = bucket.region
    limit = LONGEST if total_s is None else timedelta(seconds=total_s)
    options: ClientConfig = {
        "allow_http": bucket.plain,
        "connect_timeout": timedelta(seconds=connect_s),
        "timeout": limit,
    }
    try:
        if bucket.ca_file is not None:
            options["root_certificate"] = bucket.ca_file.read_bytes()
        return Client(
            bucket.bucket,
            prefix=bucket.prefix or None,
            config=config,
            client_options=options,
            retry_config={"max_retries": retries, "retry_timeout": limit},
        )
    except OSError as error:
        raise OperatorError(f"{bucket.ca_file}: cannot be read: {error.strerror}") from None
    except (BaseError, ValueError):
        raise OperatorError(f"{bucket.name}: the settings for the bucket in the environment make no sense") from None
