"""Forms with files: just enough of multipart/form-data to read what clients upload."""

import re
from typing import Final, NamedTuple

from trueport.simulator.errors import Refused, error_reply
from trueport.simulator.http import Request

_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?')
_NAME: Final = re.compile(rb'\bname="([^"]*)"')
_FILE_NAME: Final = re.compile(rb'\bfilename="([^"]*)"')


class Upload(NamedTuple):
    name: str
    data: bytes


class Form(NamedTuple):
    """The fields of a form, the last of a repeated name winning, and its files in order by field name."""

    fields: dict[str, str]
    files: list[tuple[str, Upload]]

    def file(self, name: str) -> Upload:
        """The first file in this field (or `name[]`). Raises Refused when there is none."""
        for field, upload in self.files:
            if field.removesuffix("[]") == name:
                return upload
        raise Refused(error_reply(400, f"Missing required parameter: '{name}'.", param=name))

    def required(self, name: str) -> str:
        """The value of a field. Raises Refused when there is none."""
        if name not in self.fields:
            raise Refused(error_reply(400, f"Missing required parameter: '{name}'.", param=name))
        return self.fields[name]


def read_form(request: Request) -> Form:
    """The form in the body. Raises Refused when it is none."""
    kind = request.headers.get("content-type", "")
    boundary = _BOUNDARY.search(kind)
    if not kind.startswith("multipart/form-data") or boundary is None:
        raise Refused(error_reply(400, f"Invalid Content-Type header ({kind}). Expected multipart/form-data."))
    form = Form({}, [])
    mark = b"--" + boundary[1].encode("latin-1")
    for part in (b"\r\n" + request.body).split(b"\r\n" + mark)[1:]:
        head, found, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not found or name is None:
            continue
        file_name = _FILE_NAME.search(head)
        field = name[1].decode("utf-8", "replace")
        if file_name is None:
            form.fields[field] = data.decode("utf-8", "replace")
        else:
            form.files.append((field, Upload(file_name[1].decode("utf-8", "replace"), data)))
    return form
