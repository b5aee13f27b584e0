"""URLs of replicas and paths of objects are exact."""

from __future__ import annotations

import pytest

from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest
from crdtdb_client.targets import path, path_to, replica_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("http://127.0.0.1:7460", "http://127.0.0.1:7460"),
        ("http://127.0.0.1:7460/", "http://127.0.0.1:7460"),
        ("HTTP://EU.Example:7460", "http://eu.example:7460"),
        ("http://eu:80", "http://eu"),
        ("https://eu:443/", "https://eu"),
        ("https://eu:80", "https://eu:80"),
        ("http://[::1]:7460", "http://[::1]:7460"),
    ],
)
def test_a_url_has_one_normal_form(given: str, normal: str) -> None:
    assert replica_url(given) == normal
    assert replica_url(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eu",
        "eu:7460",
        "127.0.0.1:7460",
        "ftp://eu",
        "http://",
        "http://:7460",
        "http://eu:99999",
        "http://eu:x",
        "http://eu/v1",
        "http://eu?",
        "http://eu/?a=1",
        "http://eu#",
        "http://ann@eu",
        "http://ann:secret@eu",
        " http://eu",
        "http://e u",
        "http://eu\n",
        "http://ëu",
        "http://[::1",
    ],
)
def test_anything_but_scheme_and_authority_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a replica"):
        replica_url(text)


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        ("views", "views"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a+b c", "a%2Bb%20c"),
        ("ü", "%C3%BC"),
        ("{x}", "%7Bx%7D"),
        ("../x", "..%2Fx"),
        ("a;b=c&d", "a%3Bb%3Dc%26d"),
        ("...", "%2E%2E%2E"),
    ],
)
def test_a_key_is_one_segment_whatever_is_in_it(key: str, segment: str) -> None:
    assert path_to(ObjectName("shop", "set", key)) == f"/v1/buckets/shop/set/{segment}"


def test_a_query_says_plus_and_space_apart_and_leaves_out_what_is_not_given() -> None:
    assert path("digest", a="1+1 =", b=None, c=5) == "/v1/digest?a=1%2B1%20%3D&c=5"


@pytest.mark.parametrize(
    ("bucket", "key", "field"),
    [
        ("shop", "", "key"),
        ("shop", "..", "key"),
        ("shop", "\ud800", "key"),
        ("Sh/op", "a", "bucket"),
    ],
)
def test_what_no_server_takes_is_refused_before_it_is_sent(
    bucket: str, key: str, field: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        path_to(ObjectName(bucket, "set", key))
    assert [wrong.field for wrong in caught.value.fields] == [field]
