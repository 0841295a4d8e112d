"""What of the AWS tools' variables and files a bucket is opened with, and what is refused without a word of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sync.domain.errors import OperatorError
from sync.stores.aws import Bucket, Keys, bucket_of

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "wJalr"}
URL = "s3://models/fleet/one"


def refusal(url: str, environment: Mapping[str, str]) -> str:
    with pytest.raises(OperatorError) as caught:
        bucket_of(url, environment)
    return caught.value.message


def files(tmp_path: Path, config: str = "", credentials: str = "") -> dict[str, str]:
    """A home with what the tools keep there."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(config)
    (tmp_path / ".aws" / "credentials").write_text(credentials)
    return {"HOME": str(tmp_path)}


def test_the_environment_says_where_and_with_which_keys() -> None:
    more = {"AWS_SESSION_TOKEN": "tok", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-west-2"}
    found = bucket_of(URL, KEYS | more | {"AWS_ENDPOINT_URL": "https://minio.local:9000"})
    keys = Keys("AKIA", "wJalr", "tok")
    assert found == Bucket("models", "fleet/one", "https://minio.local:9000", "eu-west-1", keys=keys)
    assert found.name == URL
    assert bucket_of("s3://models", KEYS).name == "s3://models"
    assert bucket_of("s3://models/", KEYS).prefix == ""
    assert bucket_of("s3://models/a%20b/", KEYS).prefix == "a b"


def test_what_is_for_s3_alone_beats_what_is_for_every_service() -> None:
    every = {"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_S3": "https://s3.example"}
    assert bucket_of(URL, KEYS | every).endpoint == "https://s3.example"
    assert bucket_of(URL, KEYS | {"AWS_DEFAULT_REGION": "us-west-2"}).region == "us-west-2"


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000", "127.1.2.3"])
def test_without_tls_this_machine_is_spoken_to(host: str) -> None:
    assert bucket_of(URL, KEYS | {"AWS_ENDPOINT_URL": f"http://{host}"}).plain


@pytest.mark.parametrize("host", ["minio.local:9000", "10.0.0.1", "localhost.example", "169.254.169.254", "[fe80::1]"])
def test_without_tls_nobody_else_is_unless_that_was_said(host: str) -> None:
    environment = KEYS | {"AWS_ENDPOINT_URL": f"http://{host}"}
    assert "want an endpoint with https://, got http://" in refusal(URL, environment)
    assert bucket_of(URL, environment | {"AWS_ALLOW_HTTP": "true"}).plain
    assert not bucket_of(URL, KEYS | {"AWS_ENDPOINT_URL": f"https://{host}", "AWS_ALLOW_HTTP": "true"}).plain


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "ftp://host", "https://", "https://me:wJalr@host", "http://[", "/x"]
)
def test_an_endpoint_that_makes_no_sense_is_refused_unseen(endpoint: str) -> None:
    told = refusal(URL, KEYS | {"AWS_ENDPOINT_URL": endpoint})
    assert told == "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL: want https://host, without keys in it"


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///x",
        "s3://b/x",
        "s3://-models",
        "s3://models/../x",
        "s3://models?x",
        "s3://models//x",
        "s3://mo dels",
    ],
)
def test_what_is_no_bucket_and_prefix_is_refused(url: str) -> None:
    assert refusal(url, KEYS).startswith("store: ")


def test_keys_in_the_url_are_refused_unseen() -> None:
    told = refusal("s3://AKIA:wJalr@models/fleet", {})
    assert "want s3://bucket/prefix and the keys in the environment" in told
    assert "wJalr" not in told
    assert "AKIA" not in told


def test_half_of_the_keys_are_none() -> None:
    for name in KEYS:
        environment = {each: text for each, text in KEYS.items() if each != name}
        if name != "AWS_ACCESS_KEY_ID":
            assert "got one without the other" in refusal(URL, environment)
    assert bucket_of(URL, {}).keys == Keys()
    assert "want AWS_ACCESS_KEY_ID" in refusal(URL, {"AWS_EC2_METADATA_DISABLED": "true"})


def test_a_bucket_for_all_wants_no_keys() -> None:
    found = bucket_of(URL, {"AWS_SKIP_SIGNATURE": "true", "AWS_EC2_METADATA_DISABLED": "true"})
    assert (found.anonymous, found.keys) == (True, Keys())


def test_no_key_is_shown() -> None:
    found = bucket_of(URL, KEYS | {"AWS_SESSION_TOKEN": "tok"})
    for secret in ("AKIA", "wJalr", "tok"):
        assert secret not in repr(found)


def test_the_tools_files_are_read_where_no_variable_says_more(tmp_path: Path) -> None:
    home = files(
        tmp_path,
        "[default]\nregion = eu-north-1\n[profile fleet]\nregion=eu-south-1\nendpoint_url = https://minio.example\n",
        "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = one%s\n"
        "[fleet]\naws_access_key_id = AKIA2\naws_secret_access_key = two\naws_session_token = tok\n",
    )
    plain = bucket_of(URL, home)
    assert (plain.region, plain.endpoint, plain.keys) == ("eu-north-1", "", Keys("AKIA1", "one%s"))
    fleet = bucket_of(URL, home | {"AWS_PROFILE": "fleet"})
    assert (fleet.region, fleet.endpoint) == ("eu-south-1", "https://minio.example")
    assert fleet.keys == Keys("AKIA2", "two", "tok")
    loud = bucket_of(URL, home | KEYS | {"AWS_PROFILE": "fleet", "AWS_REGION": "here"})
    assert (loud.region, loud.keys) == ("here", Keys("AKIA", "wJalr"))
    assert bucket_of(URL, home | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}).keys == Keys()
    assert "no profile 'other'" in refusal(URL, home | {"AWS_PROFILE": "other"})


def test_the_tools_files_may_be_elsewhere_or_not_be(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[default]\naws_access_key_id=A\naws_secret_access_key=B\n")
    elsewhere = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"), "AWS_CONFIG_FILE": str(tmp_path / "nowhere")}
    assert bucket_of(URL, elsewhere).keys == Keys("A", "B")
    assert bucket_of(URL, {"HOME": str(tmp_path)}).keys == Keys()


@pytest.mark.parametrize(
    "text", ["aws_secret_access_key = wJalr", "[default]\nwJalr", "[default\nx = wJalr", "\xff\xfe"]
)
def test_a_file_that_makes_no_sense_is_refused_unseen(tmp_path: Path, text: str) -> None:
    home = files(tmp_path)
    (tmp_path / ".aws" / "credentials").write_bytes(text.encode("latin-1"))
    told = refusal(URL, home)
    assert "credentials: want sections" in told
    assert "wJalr" not in told
    (tmp_path / ".aws" / "credentials").write_bytes(b"[default]\n" + b"#" * (1 << 20))
    assert "want sections" in refusal(URL, home)
    (tmp_path / ".aws" / "credentials").unlink()
    (tmp_path / ".aws" / "credentials").mkdir()
    assert "cannot be read: Is a directory" in refusal(URL, home)


def test_whom_to_trust_besides_is_told_by_the_caller_or_the_environment(tmp_path: Path) -> None:
    bundle = {"AWS_CA_BUNDLE": str(tmp_path / "bundle.pem")}
    assert bucket_of(URL, KEYS | bundle).ca_file == tmp_path / "bundle.pem"
    assert bucket_of(URL, KEYS | bundle, ca_file=tmp_path / "mine.pem").ca_file == tmp_path / "mine.pem"
