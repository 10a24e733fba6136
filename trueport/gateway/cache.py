"""Answers that may be given again to the very same request, for routes that allow it.

Kept in this process's memory and nowhere else: a store shared between processes would hold content outside the
tenant's storage. So each worker fills its own, and a restart empties it.
"""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from trueport.gateway.call import Admitted, HeaderList
from trueport.kit.clock import Clock

CAPACITY_BYTES: Final = 64 << 20
LARGEST_ANSWER_BYTES: Final = 4 << 20
_REPEATABLE: Final = frozenset({"chat", "embeddings", "count"})
# Members of a request's record, not of the request itself: they do not change the answer.
_ABOUT_THE_CALLER: Final = frozenset({"user", "safety_identifier", "metadata"})
# Headers that switch an API's behaviour.
_MEANT: Final = (b"anthropic-version", b"anthropic-beta", b"openai-beta")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as its client got it: headers of its own, the body or all pieces of the stream in one."""

    interaction_id: str
    status: int
    headers: HeaderList
    body: bytes
    is_stream: bool
    provider: str
    model: str
    expires_s: float = 0.0


class AnswerCache:
    """The newest answers of this process, within a bound on their bytes."""

    def __init__(self, clock: Clock, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._clock = clock
        self._capacity_bytes = capacity_bytes
        self._kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()
        self._size_bytes = 0

    def find(self, name: bytes) -> KeptAnswer | None:
        """The answer kept under `name`, None when there is none or its time is up."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        if kept.expires_s <= self._clock.monotonic():
            self._drop(name)
            return None
        self._kept.move_to_end(name)
        return kept

    def keep(self, name: bytes, answer: KeptAnswer) -> None:
        """Keep an answer until its `expires_s`, a moment of the monotonic clock."""
        if len(answer.body) > LARGEST_ANSWER_BYTES:
            return
        if name in self._kept:
            self._drop(name)
        self._kept[name] = answer
        self._size_bytes += len(answer.body)
        while self._size_bytes > self._capacity_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: bytes) -> None:
        self._size_bytes -= len(self._kept.pop(name).body)


def name_of(admitted: Admitted) -> bytes | None:
    """What two calls share exactly when one's answer is right for the other; None for calls that are not repeated.

    Besides the request, in a form in which neither spacing nor the order of members counts: the tenant and its
    environment, the policies and configuration in force, and the accounts and models that may serve.
    """
    request, call = admitted.request, admitted.call
    if request.members is None or request.kind not in _REPEATABLE:
        return None
    members = {name: value for name, value in request.members.items() if name not in _ABOUT_THE_CALLER}
    meant = sorted((name.decode(), value.decode("latin-1")) for name, value in call.headers if name in _MEANT)
    said = (
        admitted.caller.tenant_id,
        admitted.caller.environment,
        admitted.snapshot.policy_version,
        admitted.snapshot.revision,
        [(target.credential.id, target.model) for target in admitted.targets],
        call.dialect.name,
        request.operation,
        admitted.model,
        request.streams,
        request.streams_as,
        request.wants_usage_event,
        request.query,
        meant,
        members,
    )
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()
