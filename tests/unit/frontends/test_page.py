from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from edge.frontends.page import _hash, load_page

MAX_BYTES = 60_000


def test_the_page_is_one_small_file_that_asks_for_nothing_outside() -> None:
    html, _ = load_page()
    assert len(html) <= MAX_BYTES
    addresses = set(re.findall(r"https?://[\w./]+", html.decode()))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a namespace, not an address
    assert b"<link" not in html.replace(b'<link rel="icon" href="data:', b"")
    assert b" src=" not in html


def test_the_policy_allows_the_pages_own_script_and_style_and_no_other() -> None:
    html, headers = load_page()
    policy = dict(each.strip().partition(" ")[::2] for each in headers["Content-Security-Policy"].split(";"))
    for element in ("script", "style"):
        content = html.partition(f"<{element}>".encode())[2].partition(f"</{element}>".encode())[0]
        assert policy[f"{element}-src"] == f"'sha256-{b64encode(sha256(content).digest()).decode()}'"
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_strangers_text_cannot_become_markup() -> None:
    html, headers = load_page()
    for way in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b"new Function"):
        assert way not in html
    assert not re.search(rb"<[^>]* on\w+=", html.partition(b"<script>")[0])
    assert "require-trusted-types-for 'script'" in headers["Content-Security-Policy"]


def test_the_headers_say_what_it_is_and_that_a_new_release_is_seen_at_once() -> None:
    _, headers = load_page()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("html", [b"", b"<script>a</script><script>b</script>"])
def test_a_page_without_exactly_one_script_is_a_bug(html: bytes) -> None:
    with pytest.raises(ValueError, match="unpack"):
        _hash(html, "script")
