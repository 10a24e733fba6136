"""The form fields the gateway governs by, in a body that stays as it came."""

import pytest

from trueport.gateway.multipart import InvalidForm, is_form, read_form, text_of, with_text

TYPE = "multipart/form-data; boundary=cut"


def form(*parts: tuple[str, str], boundary: str = "cut") -> bytes:
    lines = [f"--{boundary}\r\ncontent-disposition: form-data; {head}\r\n\r\n{text}\r\n" for head, text in parts]
    return ("".join(lines) + f"--{boundary}--\r\n").encode()


BODY = form(
    ('name="model"', "whisper-1"), ('name="file"; filename="a.wav"', "RIFF\r\n--cu\r\n"), ('name="stream"', "true")
)


def test_fields_are_found_by_name_and_files_told_apart() -> None:
    fields = read_form(TYPE, BODY)

    assert text_of(BODY, fields, "model") == "whisper-1"
    assert text_of(BODY, fields, "stream") == "true"
    assert text_of(BODY, fields, "file") is None
    assert text_of(BODY, fields, "language") is None
    assert BODY[fields["file"].start : fields["file"].end] == b"RIFF\r\n--cu\r\n"


def test_a_quoted_boundary_is_the_same_boundary() -> None:
    assert "model" in read_form('multipart/form-data; boundary="cut"', BODY)


def test_replacing_a_field_leaves_every_other_byte() -> None:
    changed = with_text(BODY, read_form(TYPE, BODY)["model"], "gpt-4o-transcribe")

    assert changed == BODY.replace(b"whisper-1", b"gpt-4o-transcribe")
    assert text_of(changed, read_form(TYPE, changed), "model") == "gpt-4o-transcribe"


def test_lists_may_repeat_their_name() -> None:
    body = form(('name="image[]"; filename="1.png"', "a"), ('name="image[]"; filename="2.png"', "b"))

    assert set(read_form(TYPE, body)) == {"image[]"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", BODY),
        (TYPE, b""),
        (TYPE, b"preamble\r\n" + BODY),
        (TYPE, BODY.replace(b"--cut--", b"--cut")),
        (TYPE, BODY[:-20]),
        (TYPE, form(('name="model"', "a"), ('name="model"', "b"))),
        (TYPE, form(('name="model"; name="other"', "a"))),
        (TYPE, form(("filename=x", "a"))),
        (TYPE, form(('name="model"\r\n\tx: y', "a"))),
        (TYPE, form(*[(f'name="f{number}"', "a") for number in range(600)])),
        (TYPE, b'--cut\r\ncontent-disposition: form-data; name="\xff"\r\n\r\na\r\n--cut--\r\n'),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidForm):
        read_form(content_type, body)


def test_a_field_that_is_no_text_is_refused() -> None:
    body = b'--cut\r\ncontent-disposition: form-data; name="model"\r\n\r\n\xff\xfe\r\n--cut--\r\n'

    with pytest.raises(InvalidForm):
        text_of(body, read_form(TYPE, body), "model")


def test_only_forms_are_forms() -> None:
    assert is_form("Multipart/Form-Data; boundary=x")
    assert not is_form("application/json")
