"""Where a key is looked for, and that a key in a query stays with the gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import HeaderList
from trueport.gateway.credentials import AmbiguousCredential, bearer_header_or_query, without_key
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.dialects.google import GoogleDialect
from trueport.gateway.dialects.openai import OpenAIDialect

KEY = b"sk-tp-1"
DIALECTS: list[Dialect] = [OpenAIDialect(), AnthropicDialect(), GoogleDialect()]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer " + KEY)], "sk-tp-1"),
        ([(b"authorization", b"bEARER   " + KEY + b" ")], "sk-tp-1"),
        ([(b"x-api-key", KEY)], "sk-tp-1"),
        ([(b"api-key", b" " + KEY)], "sk-tp-1"),
        ([(b"x-goog-api-key", KEY)], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Bearer ")], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Basic eDp5")], "sk-tp-1"),
        ([(b"authorization", b"Basic " + KEY)], None),
        ([(b"authorization", KEY)], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"cookie", KEY)], None),
        ([], None),
    ],
)
def test_a_key_is_found_wherever_an_sdk_puts_it(dialect: Dialect, headers: HeaderList, key: str | None) -> None:
    assert dialect.credential(headers, "") == key


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("other", [b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"])
def test_two_different_keys_are_refused(dialect: Dialect, other: bytes) -> None:
    value = b"Bearer sk-tp-2" if other == b"authorization" else b"sk-tp-2"

    with pytest.raises(AmbiguousCredential):
        dialect.credential([(b"x-api-key", KEY), (other, value)], "")


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("key=sk-tp-1", "sk-tp-1"),
        ("alt=sse&key=sk-tp-1", "sk-tp-1"),
        ("k%65y=sk%2Dtp-1", "sk-tp-1"),
        ("key=sk-tp-1&key=sk-tp-1&key=", "sk-tp-1"),
        ("key=", None),
        ("key", None),
        ("Key=sk-tp-1", None),
        ("monkey=sk-tp-1", None),
        ("", None),
    ],
)
def test_google_clients_may_send_it_in_the_query(query: str, key: str | None) -> None:
    assert GoogleDialect().credential([], query) == key


@pytest.mark.parametrize("headers", [[], [(b"x-goog-api-key", b"sk-tp-2")], [(b"authorization", b"Bearer sk-tp-2")]])
def test_a_query_counts_as_much_as_a_header(headers: HeaderList) -> None:
    with pytest.raises(AmbiguousCredential):
        bearer_header_or_query(headers, "key=sk-tp-1&key=sk-tp-2" if not headers else "key=sk-tp-1")


@pytest.mark.parametrize("dialect", [OpenAIDialect(), AnthropicDialect()], ids=lambda dialect: dialect.name)
def test_for_everybody_else_it_is_no_key(dialect: Dialect) -> None:
    assert dialect.credential([], "key=sk-tp-1") is None
    assert dialect.credential([(b"x-api-key", KEY)], "key=sk-tp-2") == "sk-tp-1"


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("key=a", ""),
        ("a=%20+&key=a&b", "a=%20+&b"),
        ("%6bey=a&beta=true", "beta=true"),
        ("monkey=a&keys=b", "monkey=a&keys=b"),
        ("", ""),
    ],
)
def test_a_key_is_taken_out_and_the_rest_stays_as_it_is_spelled(query: str, kept: str) -> None:
    assert without_key(query) == kept


@given(st.lists(st.sampled_from(["key=SECRET", "k%65y=SECRET", "a=1", "b", "", "key", "%6B%65%79=SECRET"])))
def test_no_spelling_of_a_key_is_left(pairs: list[str]) -> None:
    assert "SECRET" not in without_key("&".join(pairs))
