"""The path of a call that the gateway answers itself: limited, recorded, metered at nothing."""

from collections.abc import Awaitable, Callable
from typing import Final

from trueport.gateway.admission import admit_own
from trueport.gateway.call import Admitted, Call, Caller, HeaderList, Outcome, Request, Usage
from trueport.gateway.own import detect, moderations
from trueport.gateway.ports import Tools
from trueport.gateway.settlement import Settlement
from trueport.gateway.snapshot import TenantSnapshot

Answer = Callable[[Admitted, Tools], Awaitable[tuple[bytes, str]]]
_JSON: Final = (b"content-type", b"application/json")


def own_answer(request: Request, snapshot: TenantSnapshot) -> Answer | None:
    """What answers the request in place of a provider; None where one is to be asked."""
    if request.operation == detect.OPERATION and request.kind == "own":
        return detect.answer
    return moderations.answer if moderations.is_local(request, snapshot) else None


async def answer_here(
    call: Call, caller: Caller, request: Request, answer: Answer, settlement: Settlement, tools: Tools
) -> tuple[HeaderList, bytes]:
    """Headers (without the gateway's own) and body of the answer, the call being recorded and closed.

    What is asked for detection is not kept, not even sealed: the record holds a keyed digest.
    """
    admitted, settlement.reservation = await admit_own(
        call, caller, request, settlement.snapshot, tools, keeps_content=answer is not detect.answer
    )
    settlement.record = await tools.recorder.intent(admitted)
    if tools.recorder.waits_before_upstream:
        await settlement.record.durable()
    body, version = await answer(admitted, tools)
    await settlement.record.durable()
    settlement.close(
        Outcome(
            end="completed",
            status=200,
            model_served=version,
            usage=Usage(admitted.input_tokens_estimate, 0),
            usage_source="estimated",
            cost_nano_usd=0,
            reply_bytes=len(body),
            content=body if admitted.keeps_content else b"",
        )
    )
    return [_JSON, *admitted.rate_headers], body
