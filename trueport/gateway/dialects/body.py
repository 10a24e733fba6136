"""What every dialect asks of a JSON body before it looks at the members of its own."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from trueport.gateway.json_gate import read_object
from trueport.kit.errors import InvalidRequest

MOST_LIST_ITEMS: Final = 2_048
MOST_TOOLS: Final = 512
MOST_TOKENS: Final = 1_000_000_000
MOST_CANDIDATES: Final = 128

# No API has these; gateways and servers that copy one obey them, and a provider behind this one may be such a server.
_MOVES_THE_CALL: Final = frozenset({"api_base", "base_url", "api_key", "extra_headers", "extra_body"})
_CHARSET: Final = re.compile(r';\s*charset="?([^";\s]*)', re.IGNORECASE)


class TooMany(InvalidRequest):
    """More list items than any honest call has."""

    code = "too_many_items"


def is_json(content_type: str) -> bool:
    """Whether a body of this type is read as JSON; a missing type counts as JSON."""
    return content_type.partition(";")[0].strip().lower() in ("application/json", "")


def json_members(content_type: str, body: bytes) -> dict[str, object]:
    """The top-level members of a JSON body.

    Raises InvalidRequest for another type or charset and for members that would move the call elsewhere, and what the
    JSON gate raises (json_gate.read_object).
    """
    if not is_json(content_type):
        raise InvalidRequest("Send a JSON object with content-type application/json.", param="body")
    charset = _CHARSET.search(content_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8"):
        raise InvalidRequest("The body must be UTF-8.", param="body")
    members = read_object(body)
    for name in _MOVES_THE_CALL & members.keys():
        raise InvalidRequest(f"{name} is no member of this API: where calls go is configured.", param=name)
    return members


def checked_model(value: object, *, required: bool) -> str | None:
    """A model's name: 1 to 256 printable characters. Raises InvalidRequest for anything else.

    None passes where none is `required`.
    """
    if value is None and not required:
        return None
    # Printable, because it is repeated in a header of the answer.
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise InvalidRequest("model must be a model name.", param="model")
    return value


def check_list_lengths(members: Mapping[str, object], *, items: Iterable[str] = (), tools: Iterable[str] = ()) -> None:
    """Refuse lists no honest call has: more than MOST_LIST_ITEMS turns, or MOST_TOOLS tools. Raises TooMany.

    `items` and `tools` name the members to look at; one that is no list is left for the provider to refuse.
    """
    for names, most in ((items, MOST_LIST_ITEMS), (tools, MOST_TOOLS)):
        for name in names:
            value = members.get(name)
            if isinstance(value, list) and len(value) > most:
                raise TooMany(f"At most {most} {name} are taken.", param=name)


def count(value: object) -> int | None:
    """`value` where it is a number of tokens that can be, else None: no bool, no fraction, at most MOST_TOKENS."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def candidates(value: object) -> int:
    """How many answers are asked for, 1 to MOST_CANDIDATES; 1 for what is no such number."""
    return value if type(value) is int and 1 <= value <= MOST_CANDIDATES else 1


def tag(value: object) -> str | None:
    """A client's name for its own user, None for anything but a text with something in it."""
    return value if isinstance(value, str) and value else None
