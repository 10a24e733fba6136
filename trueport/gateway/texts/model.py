"""What a text in a body is to everybody who deals with it: where it stands, who speaks it, how it may be changed."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from trueport.detection.types import Passage
from trueport.kit.errors import TrueportError


class Hop(Enum):
    """A step into a text that holds something itself, or to a member's name instead of its value."""

    NAME = "name"
    JSON = "json"  # a string that is a JSON document
    LINES = "lines"  # a JSON document on each line; the next step is the line's number
    DATA_URL = "data_url"
    BASE64 = "base64"
    FORM = "form"  # a multipart body; the next step is the part's number
    PAIRS = "pairs"  # a urlencoded form; the next step is the pair's number
    EVENTS = "events"  # server-sent events; the next step is the event's number
    TEXT = "text"


Step = str | int | Hop
Keys = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What takes the place of an edit: the whole of something goes.

    `drop` takes an element out of its list, `null` puts null in its place, `refuse` says that nothing acceptable can.
    """

    keys: Keys
    how: Literal["drop", "null", "refuse"]


@dataclass(frozen=True, slots=True)
class Part:
    """One text in its place.

    `path` is for people and records: members of the API by name, whatever a client named itself by its number, so
    that no path ever holds a text. Parts of the same `group` are pieces of one text and are read together, joined by
    nothing where the group's name begins with "+", else by line ends. `removal` stands for every edit of the part.
    """

    path: str
    keys: Keys
    passage: Passage
    group: str = ""
    removal: Removal | None = None


class NotEditable(TrueportError):
    """A text that policy wants changed, which nobody may change: the model's signed thoughts."""

    code = "content_policy_violation"
    status = 400
    should_retry = False

    def __init__(self) -> None:
        super().__init__("The content policy does not allow this content.")


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes that texts were read from, and how they are to be understood."""

    hop: Hop
    source: bytes
    content_type: str = ""
