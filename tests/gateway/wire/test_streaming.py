"""Events out of bytes: the same events wherever the reads were cut, and not a byte changed."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.streaming import SseSplitter, event_data, event_name, has_data
from trueport.gateway.upstream import UpstreamInvalid

BOM = b"\xef\xbb\xbf"

STREAMS: dict[str, tuple[bytes, list[bytes], bytes]] = {
    "LF": (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"], b""),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"], b""),
    "CR": (b"data: a\r\rdata: b\r\r", [b"data: a\r\r"], b"data: b\r\r"),
    "mixed in an event": (b"event: x\rdata: a\r\ndata: b\n\ndata: c\n\n",
    [b"event: x\rdata: a\r\ndata: b\n\n", b"data: c\n\n"], b""),
    "LF then CRLF": (b"data: a\n\r\ndata: b\r\n\n", [b"data: a\n\r\n", b"data: b\r\n\n"], b""),
    "CR then LF pair": (b"data: a\r\r\ndata: b\n\r\n", [b"data: a\r\r\n", b"data: b\n\r\n"], b""),
    "BOM": (BOM + b"data: a\n\ndata: b\n\n", [BOM + b"data: a\n\n", b"data: b\n\n"], b""),
    "comments": (b": hi\n\ndata: a\n: there\n\n", [b": hi\n\n", b"data: a\n: there\n\n"], b""),
    "blank lines": (b"\n\n\n\ndata: a\n\n\ndata: b\n\n", [b"\n\n", b"\n\n", b"data: a\n\n", b"\ndata: b\n\n"], b""),
    "two blank CRLF lines": (b"data: a\r\n\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"\r\ndata: b\r\n\r\n"], b""),
    "beyond ASCII": ("data: Grüße 🦉 日本\n\ndata: é\n\n".encode(),
    ["data: Grüße 🦉 日本\n\n".encode(), "data: é\n\n".encode()], b""),
    "cut off": (b"data: a\n\ndata: b\n", [b"data: a\n\n"], b"data: b\n"),
    "nothing": (b"", [], b""),
    "no blank line": (b"data: a", [], b"data: a"),
    "named": (b"event: ping\nid: 7\nretry: 10\ndata: {}\n\n", [b"event: ping\nid: 7\nretry: 10\ndata: {}\n\n"], b""),
}  # fmt: skip


def split(*reads: bytes) -> tuple[list[bytes], bytes]:
    splitter = SseSplitter()
    events = [event for read in reads for event in splitter.feed(read)]
    return events, splitter.finish()


@pytest.mark.parametrize(("stream", "events", "rest"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_is_cut_into_its_events(stream: bytes, events: list[bytes], rest: bytes) -> None:
    assert split(stream) == (events, rest)


@pytest.mark.parametrize("stream", [stream for stream, _, _ in STREAMS.values()], ids=STREAMS.keys())
def test_where_the_reads_are_cut_makes_no_difference(stream: bytes) -> None:
    whole = split(stream)
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert split(stream[:first], stream[first:second], stream[second:]) == whole
    assert split(*[stream[at : at + 1] for at in range(len(stream))]) == whole


def reference(stream: bytes) -> tuple[list[bytes], bytes]:
    """The same by reading one line after the other, as the standard is written."""
    events, event, rest = [], b"", stream
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", stream)
    ended = False
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        event += line
        blank = line in {b"\r\n", b"\r", b"\n"}
        # A blank line ends what is before it; one at the very beginning ends nothing yet.
        if blank and ended and not (last and line == b"\r"):
            events.append(event)
            event, ended = b"", False
        else:
            ended = line.endswith((b"\r", b"\n"))
    rest = event
    return events, rest


SSE_BYTES = st.lists(
    st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b":", b"event: e", b"\n\n", "ü".encode(), b"data", b" "]),
    max_size=30
).map(b"".join)  # fmt: skip


@given(SSE_BYTES, st.lists(st.integers(0, 100), max_size=6))
def test_any_stream_is_cut_as_its_lines_say_and_kept_byte_for_byte(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    events, rest = split(*[stream[a:b] for a, b in pairwise(bounds)])

    assert b"".join(events) + rest == stream
    assert (events, rest) == reference(stream)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_cut_or_refused_but_never_changed(stream: bytes, cut: int) -> None:
    try:
        events, rest = split(stream[:cut], stream[cut:])
    except UpstreamInvalid:
        with pytest.raises(UnicodeDecodeError):
            stream.decode()
        return
    assert b"".join(events) + rest == stream


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe6\x97", b"a\x80"]
)
def test_an_event_that_is_not_utf8_is_refused_however_it_is_cut(bad: bytes) -> None:
    stream = b"data: " + bad + b"\n\n"
    for at in range(len(stream) + 1):
        with pytest.raises(UpstreamInvalid):
            split(stream[:at], stream[at:])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_the_limit_on_an_event_is_exact(end: bytes, size: int, fits: bool, step: int) -> None:
    event = b"data: ".ljust(size - len(end), b"x") + end
    stream = b"data: 1\n\n" + event
    splitter = SseSplitter(event_limit_bytes=100)

    def feed() -> list[bytes]:
        return [found for at in range(0, len(stream), step) for found in splitter.feed(stream[at : at + step])]

    if fits:
        assert feed() == [b"data: 1\n\n", event]
    else:
        with pytest.raises(UpstreamInvalid):
            feed()


def test_what_waits_for_its_end_is_bounded() -> None:
    splitter = SseSplitter(event_limit_bytes=1_000, buffer_limit_bytes=400)
    splitter.feed(b"x" * 300)
    with pytest.raises(UpstreamInvalid):
        splitter.feed(b"x" * 101)


def test_a_megabyte_in_single_bytes_is_not_quadratic() -> None:
    splitter = SseSplitter()
    for _ in range(200_000):
        splitter.feed(b"x")
    assert splitter.feed(b"\n\n")[0] == b"x" * 200_000 + b"\n\n"


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"data: {}\n\n", "", b"{}"),
        (b"data:{}\n\n", "", b"{}"),
        (b"data:  {}\n\n", "", b" {}"),
        (b"data: a\r\n\r\n", "", b"a"),
        (b"data: a\r\r", "", b"a"),
        (b"data: a\ndata: b\n\n", "", b"a\nb"),
        (b"data: a\rdata: b\n\n", "", b"a\nb"),
        (b"data\n\n", "", b""),
        (b"data: a\ndata\n\n", "", b"a\n"),
        (b": data: no\n\n", "", b""),
        (b"xdata: no\ndata-x: no\n data: no\n\n", "", b""),
        (b"event: ping\ndata: {}\n\n", "ping", b"{}"),
        (b"event: a\nevent: b\ndata: c\nid: 1\n\n", "b", b"c"),
        (BOM + b"data: a\n\n", "", b"a"),
        (b"\n\n", "", b""),
        (b"\ndata: a\n\n", "", b"a"),
        ("event: ü\ndata: 日\n\n".encode(), "ü", "日".encode()),
    ],
)
def test_an_events_name_and_data_are_what_the_standard_says(event: bytes, name: str, data: bytes) -> None:
    assert (event_name(event), event_data(event)) == (name, data)


@pytest.mark.parametrize(
    ("event", "expected"),
    [(b"data: a\n\n", True), (b"data:\n\n", True), (b"data\n\n", True), (b"event: x\ndata: a\n\n", True),
    (b": a\n\n", False),
     (b": data: a\n\n", False), (b"event: x\n\n", False), (b"\n\n", False), (BOM + b"data: a\n\n", True)],
)  # fmt: skip
def test_only_data_makes_an_event(event: bytes, expected: bool) -> None:
    assert has_data(event) is expected
