"""One reading of every body that gets past, and a refusal with a name for every other."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.json_gate import (
    DuplicateKey,
    InvalidJson,
    JsonTooDeep,
    TooManyItems,
    read_object,
    splice_members,
)
from trueport.kit.errors import InvalidRequest

CODES: dict[type[InvalidRequest], str] = {
    InvalidJson: "invalid_json",
    DuplicateKey: "duplicate_key",
    JsonTooDeep: "json_too_deep",
    TooManyItems: "too_many_items",
}

REFUSED: list[tuple[bytes, type[InvalidRequest]]] = [
    *[(body, InvalidJson) for body in [
        b"", b" ", b"null", b"true", b"1", b'"x"', b"[]", b"[{}]", b"{", b"}", b"{]", b'{"a":}', b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}", b'{"a" 1}', b'{"a":1}x', b'{"a":1}{}', b'{"a":1}\x00', b"{} // no", b"/* no */{}", b'{"a":01}',
        b'{"a":+1}', b'{"a":.5}', b'{"a":1.}', b'{"a":0x1}', b'{"a":1_000}', b'{"a":tru}', b'{"a":undefined}',
        # what JSON does not have, and numbers that become it
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":[NaN]}', b'{"a":1e999}', b'{"a":-1e999}',
        # text that is not UTF-8, or not text
        b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":"\xc3"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\xaf"}',
        b'{"\xff":1}', '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32-le"), b'{"a":"\n"}', b'{"a":"\x00"}',
        b'{"a":"\\x41"}', b'{"a":"\\u12"}', b'{"a":"\\"}', b'{"a":"', b'{"a',
        # halves of surrogate pairs
        b'{"a":"\\ud800"}', b'{"a":"\\uD83D"}', b'{"a":"\\udc00"}', b'{"a":"\\ude00\\ud83d"}',
        b'{"a":"\\ud83dx\\ude00"}',
        b'{"\\ud800":1}', b'{"a":[{"b":"\\uDBFF"}]}', b'{"a":"\\\\\\ud800"}', b'{"a":"\\ud83d\\ud83d\\ude00"}',
        # integers beyond what is read
        b'{"a":' + b"9" * 4_301 + b"}", b'{"a":-' + b"9" * 5_000 + b"}",
    ]],
    *[(body, DuplicateKey) for body in [
        b'{"model":"a","model":"b"}', b'{"model":"a","mod\\u0065l":"b"}', b'{"\\u006dodel":1,"model":2}',
        b'{"":1,"":2}',
        b'{"a":{"b":1,"b":2}}', b'{"a":[{"b":1,"b":1}]}', b'{"a":[[[{"b":{"c":1,"\\u0063":1}}]]]}', b'{"\\/":1,"/":2}',
        b'{"\\ud83e\\udd89":1,"\xf0\x9f\xa6\x89":2}', b'{"a":1,"b":2,"a":1}',
    ]],
    *[(body, JsonTooDeep) for body in [
        b'{"a":' + b"[" * 128 + b"]" * 128 + b"}", b'{"a":' * 129 + b"1" + b"}" * 129, b"[" * 129,
        b'{"a":' * 1_000_000,
        b"[" * 1_000_000, b"[{" * 500_000, b'{"a":"\\\\",' + b'"b":' + b"[" * 200,
        b'{"a":"' + b"]" * 300 + b'","b":' + b"[" * 130,
        b'{"x":"\\"","a":' + b"[" * 200 + b"]" * 200 + b"}", b'"' + b"[" * 1_000_000,
    ]],
    *[(body, TooManyItems) for body in [
        b'{"a":[' + b"{}," * 100_000 + b"{}]}", b'{"a":[' + b"1," * 100_000 + b"1]}",
        b'{"a":[' + b'"",' * 3_000_000 + b'""]}',
        b"{" + b",".join(b'"%d":1' % n for n in range(100_001)) + b"}",
        b'{"a":"\\\\","b":[' + b"[]," * 100_000 + b"[]]}",
    ]],
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "refusal"), REFUSED, ids=[f"{n} {body[:24]!r}" for n, (body, _) in enumerate(REFUSED)]
)
def test_a_body_with_two_readings_or_none_is_refused(body: bytes, refusal: type[InvalidRequest]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_object(body)
    assert type(caught.value) is refusal
    assert caught.value.status == 400
    assert caught.value.code == CODES[refusal]
    assert caught.value.fields == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b' \r\n\t{ } \n', b'{"a":1.0,"b":-0,"c":1e5,"d":1E+2,"e":0.1e-7}', b'{"a":"\\ud83e\\udd89"}',
        b'{"a":"\\\\ud800"}', b'{"a":"\\\\\\\\ud800 \\"\\ud83e\\udd89\\""}', '{"ä":"日本🦉"}'.encode(),
        b'{"a":null,"b":[true,false,null]}',
        b'{"a":' + b"9" * 4_300 + b"}", b'{"a":' + b"[" * 127 + b"]" * 127 + b"}", b'{"a":"' + b"[{" * 200_000 + b'"}',
        b'{"a":"' + b'\\"[,{' * 200_000 + b'"}', b'{"a":"\\\\","b":"' + b"[" * 500 + b'"}',
        b'{"a":[' + b"[]," * 40_000 + b"[]]}",
        b'{"a":{"b":1},"b":{"a":1},"A":2}', b'{"a":"' + b"," * 200_000 + b'"}',
        b'{"a":"' + b"\\\\" * 300_000 + b'","b":[[[[]]]]}',
        b'{"a":1e-400}', b'{"a":"\\u0000"}', b'{"__proto__":1,"$where":2}',
    ],
    ids=range(20),
)  # fmt: skip
def test_a_body_with_one_reading_is_read_as_every_parser_reads_it(body: bytes) -> None:
    assert read_object(body) == json.loads(body)


@pytest.mark.parametrize("levels", [1, 2, 64, 127, 128])
def test_depth_up_to_the_bound_is_read(levels: int) -> None:
    body = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)
    read_object(body)
    with pytest.raises(JsonTooDeep):
        read_object(body, max_depth=levels - 1)


def test_a_bound_of_the_callers_own_is_exact() -> None:
    body = b'{"a":[1,2,3]}'  # two brackets and two commas
    read_object(body, most_items=4)
    with pytest.raises(TooManyItems):
        read_object(body, most_items=3)


def test_ten_megabytes_of_nothing_are_refused_without_building_them() -> None:
    body = b'{"a":[' + b"{}," * 3_400_000 + b"{}]}"
    tracemalloc.start()
    with pytest.raises(TooManyItems):
        read_object(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000


def test_refusals_say_nothing_of_the_body() -> None:
    for body, _ in REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            read_object(body.replace(b'"a"', b'"canary"'))
        assert "canary" not in f"{caught.value} {caught.value.fields}"


def surrogate_free() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=12)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | surrogate_free(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(surrogate_free(), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(surrogate_free(), VALUES, max_size=6)
LAYOUTS = st.sampled_from([(None, (",", ":")), (None, (", ", ": ")), (2, None), (None, (" ,\t", "\r\n:\n"))])


def written(value: object, layout: tuple[int | None, tuple[str, str] | None], ascii_only: bool) -> bytes:
    return json.dumps(value, indent=layout[0], separators=layout[1], ensure_ascii=ascii_only).encode()


@given(OBJECTS, LAYOUTS, st.booleans())
def test_whatever_was_written_as_json_is_read_back(
    value: dict[str, object], layout: tuple[int | None, tuple[str, str] | None], ascii_only: bool
) -> None:
    assert read_object(written(value, layout, ascii_only)) == value


PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"b"', b'"\\u0061"', b"1", b"-0.5e3", b"null", b'"', b"\\", b" ",
    b"\xff",
     b'"\\ud800"', b'"\\ud83e\\udd89"', b"NaN", b'"model"', b'"mod\\u0065l"', b"\n", "é".encode(), b'{"a":', b"}}"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map(b"".join) | st.binary(max_size=60), st.integers(1, 6))
def test_what_gets_past_the_gate_reads_the_same_everywhere(body: bytes, max_depth: int) -> None:
    try:
        value = read_object(b'{"a":' + body + b"}", max_depth=max_depth)
    except InvalidRequest:
        return
    forwarded = b'{"a":' + body + b"}"
    assert value == json.loads(forwarded)
    keys: list[int] = []
    json.loads(forwarded, object_pairs_hook=lambda pairs: keys.append(len(pairs) - len(dict(pairs))))
    assert not any(keys)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        (b'{"model":"a","n":1.0}', {"model": "b"}, b'{"model":"b","n":1.0}'),
        (b'{"n":1.0,"model":"a"}', {"model": "b"}, b'{"n":1.0,"model":"b"}'),
        (b'{ "n" : 1.0 ,\n "model" : "a" }\n', {"model": "b"}, b'{ "n" : 1.0 ,\n "model" : "b" }\n'),
        (b"{}", {"a": 1}, b'{"a":1}'),
        (b"{ }", {"a": 1, "b": None}, b'{ "a":1,"b":null}'),
        (b'{"a":1e5 }', {"b": {"c": True}}, b'{"a":1e5 ,"b":{"c":true}}'),
        (b'{"mod\\u0065l":"a"}', {"model": "b"}, b'{"mod\\u0065l":"b"}'),
        (b'{"x":{"model":"a"},"model":"a"}', {"model": "b"}, b'{"x":{"model":"a"},"model":"b"}'),
        (b'{"x":"\\"model\\":1,}","model":[1,{"model":2}]}', {"model": "b"}, b'{"x":"\\"model\\":1,}","model":"b"}'),
        ('{"ü":"日","model":"a"}'.encode(), {"model": "é", "z": "🦉"}, '{"ü":"日","model":"é","z":"🦉"}'.encode()),
        (b'{"a":1,"b":2,"c":3}', {"c": 30, "a": 10, "d": 40}, b'{"a":10,"b":2,"c":30,"d":40}'),
        (b'{"a":1}', {}, b'{"a":1}'),
    ],
)
def test_a_splice_changes_what_it_names_and_nothing_else(
    body: bytes, changes: dict[str, object], expected: bytes
) -> None:
    assert splice_members(body, read_object(body), changes) == expected


@given(OBJECTS, LAYOUTS, st.booleans(), OBJECTS, st.data())
def test_a_splice_reads_back_as_the_object_with_its_changes(
    value: dict[str, object],
    layout: tuple[int | None, tuple[str, str] | None],
    ascii_only: bool,
    changes: dict[str, object],
    data: st.DataObject,
) -> None:
    if value:
        changes |= dict.fromkeys(data.draw(st.lists(st.sampled_from(sorted(value)), max_size=3)), "changed")
    body = written(value, layout, ascii_only)

    assert read_object(splice_members(body, read_object(body), changes)) == {**value, **changes}


@given(OBJECTS.filter(bool), LAYOUTS, st.booleans(), st.data())
def test_a_splice_of_what_is_already_there_moves_no_byte_around_it(
    value: dict[str, object],
    layout: tuple[int | None, tuple[str, str] | None],
    ascii_only: bool,
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    body = written(value, layout, ascii_only)
    there = splice_members(body, value, {name: "\u2603"})
    mark = '"\u2603"'.encode()
    before, after = there.split(mark, 1) if there.count(mark) == 1 else (b"", b"")

    assert body.startswith(before)
    assert body.endswith(after)
