"""A request with everything that decides its answer, and the answer; every dialect's handlers speak in these."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec

import msgspec

from trueport.simulator.dialect import Dialect
from trueport.simulator.directives import Tally, from_list, from_texts
from trueport.simulator.errors import Refused
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply
from trueport.simulator.script import Script
from trueport.simulator.store import Store
from trueport.simulator.tokens import Tokens


class Answer(NamedTuple):
    """The reply to a request, bent by its faults, and what the ledger wants to know about it."""

    reply: Reply
    script: Script
    model: str | None = None


class Call(NamedTuple):
    """A request with everything that decides its answer. `body_digest` is the body's SHA-256 in hexadecimal;
    `model` is a model named elsewhere than in the body."""

    request: Request
    body_digest: str
    base: Script
    tally: Tally
    store: Store
    tokens: Tokens
    request_id: str
    key: str | None
    model: str | None = None

    def script(self, texts: Iterable[str] = (), model: str = "") -> Script:
        """The directives of the server, the texts, the model name and the header, later ones winning.

        Faults that have struck as often as they were to are left out. Raises DirectiveError.
        """
        script = from_texts(texts, self.base) if b"[[" in self.request.body else self.base
        if "+" in model:
            script = from_list(model.partition("+")[2], script)
        header = self.request.headers.get("x-simulator")
        if header:
            script = from_list(header, script)
        if script.faults and any(fault.has("times") for fault in script.faults):
            return self.tally.still_due(script, "\n".join(texts) or f"{self.request.path} {self.body_digest}")
        return script


Handler = Callable[[Call], Answer]


class Route(NamedTuple):
    """Who answers a request, and in whose words."""

    dialect: Dialect
    handler: Handler


def json_reply(value: object) -> Reply:
    """`value` as a plain JSON body."""
    return Reply(body=msgspec.json.encode(value))


def scripted(call: Call, reply: Reply, model: str | None = None) -> Answer:
    """`reply` to a request without texts, under the directives it carries elsewhere."""
    return Answer(reply, call.script((), model or ""), model)


Rest = ParamSpec("Rest")


def refusing(handler: Callable[Concatenate[Call, Rest], Answer]) -> Callable[Concatenate[Call, Rest], Answer]:
    """The same handler, whose refusals obey the directives of the request too."""

    @wraps(handler)
    def heeding(call: Call, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Answer:
        try:
            return handler(call, *args, **kwargs)
        except Refused as refusal:
            return scripted(call, refusal.reply)

    return heeding
