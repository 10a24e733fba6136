"""What every dialect asks of a JSON body."""

from typing import Any

import pytest

from trueport.gateway.dialects import body as intake
from trueport.gateway.json_gate import DuplicateKey, InvalidJson
from trueport.kit.errors import InvalidRequest


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"']
)
def test_these_types_are_json(content_type: str) -> None:
    assert intake.json_members(content_type, b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/jsonl",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        'application/json; charset="utf-7"',
        "application/json; charset=",
    ],
)
def test_another_type_or_charset_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        intake.json_members(content_type, b'{"a":1}')

    assert refused.value.fields["param"] == "body"


@pytest.mark.parametrize(
    ("body", "error"), [(b"", InvalidJson), (b"[]", InvalidJson), (b'{"a":1,"a":2}', DuplicateKey)]
)
def test_a_body_passes_the_gate(body: bytes, error: type[InvalidRequest]) -> None:
    with pytest.raises(error):
        intake.json_members("application/json", body)


@pytest.mark.parametrize("model", ["", 1, [], {}, True, "x" * 257, "a\nb", "a\x00", "a\x7f", "a\u2028b"])
@pytest.mark.parametrize("required", [True, False])
def test_a_model_has_to_be_a_printable_name(model: Any, *, required: bool) -> None:
    with pytest.raises(InvalidRequest) as refused:
        intake.checked_model(model, required=required)

    assert refused.value.fields["param"] == "model"


def test_a_model_may_be_missing_where_none_is_required() -> None:
    assert intake.checked_model(None, required=False) is None
    assert intake.checked_model("x" * 256, required=True) == "x" * 256
    with pytest.raises(InvalidRequest):
        intake.checked_model(None, required=True)


@pytest.mark.parametrize(
    ("name", "most"),
    [("messages", intake.MOST_LIST_ITEMS), ("input", intake.MOST_LIST_ITEMS), ("tools", intake.MOST_TOOLS)],
)
def test_a_list_may_be_long_but_not_longer_than_any_honest_one(name: str, most: int) -> None:
    intake.check_list_lengths({name: [0] * most}, items=("messages", "input"), tools=("tools",))

    with pytest.raises(intake.TooMany) as refused:
        intake.check_list_lengths({name: [0] * (most + 1)}, items=("messages", "input"), tools=("tools",))

    assert refused.value.fields["param"] == name
    assert refused.value.code == "too_many_items"


@pytest.mark.parametrize("value", [None, "x" * 5_000, {}, 7])
def test_what_is_no_list_is_left_to_the_provider(value: Any) -> None:
    intake.check_list_lengths({"messages": value}, items=("messages",))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (10**9, 10**9),
        (10**9 + 1, None),
        (-1, None),
        (1.0, None),
        (True, None),
        ("7", None),
        (None, None),
    ],
)
def test_only_a_number_that_can_be_is_a_count(value: Any, number: int | None) -> None:
    assert intake.count(value) == number


@pytest.mark.parametrize(("value", "number"), [(1, 1), (128, 128), (129, 1), (0, 1), (True, 1), ("4", 1), (None, 1)])
def test_one_candidate_is_asked_for_unless_more_are(value: Any, number: int) -> None:
    assert intake.candidates(value) == number


@pytest.mark.parametrize(("value", "name"), [("u-1", "u-1"), ("", None), (7, None), (None, None), (["u"], None)])
def test_a_tag_is_a_text_with_something_in_it(value: Any, name: str | None) -> None:
    assert intake.tag(value) == name


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "extra_headers", "extra_body"])
def test_a_member_that_would_move_the_call_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        intake.json_members("application/json", f'{{"model":"m","{name}":"x"}}'.encode())

    assert refused.value.fields["param"] == name
