"""The gates before anything is recorded: may this key use this model, is there a target, is there room."""

from typing import Final

from trueport.gateway.call import Admitted, Call, Caller, Request
from trueport.gateway.limits.base import Ask, Limit, Reservation, headers
from trueport.gateway.ports import Tools
from trueport.gateway.routing import targets_for
from trueport.gateway.snapshot import Target, TenantSnapshot
from trueport.kit.errors import Forbidden

BYTES_PER_TOKEN: Final = 4
_UNSTATED_OUTPUT_TOKENS: Final = 1_024
_LONGEST_CALL_S: Final = 660.0


class ModelNotAllowed(Forbidden):
    """The key's list of models does not have this one."""

    code = "model_not_allowed"

    def __init__(self) -> None:
        super().__init__("This API key may not use the requested model.", param="model")


async def admit(
    call: Call, caller: Caller, request: Request, snapshot: TenantSnapshot, tools: Tools
) -> tuple[Admitted, Reservation]:
    """The admitted call and what it holds of the limits until it is settled.

    Raises ModelNotAllowed, ModelNotServed, and the refusals of limits.base.
    """
    targets = targets_for(snapshot, call.dialect.name, request.model, call.dialect.providers)
    targets = tuple(target for target in targets if _may_use(caller, request, target))
    if not targets:
        raise ModelNotAllowed
    ask = _ask(call, caller, request, snapshot)
    granted = await tools.limits.reserve(ask)
    admitted = Admitted(call, caller, request, snapshot, targets, headers(granted.standing))
    return admitted, granted.reservation


def _may_use(caller: Caller, request: Request, target: Target) -> bool:
    """Checked on the model that would really be called, and on the one that was asked for."""
    if request.lists_models:
        return True
    if request.model is None:
        # Uploads and jobs name their models where the gateway does not look: only for keys that may use every one.
        return caller.may_use_model("")
    return caller.may_use_model(request.model) and (target.model is None or caller.may_use_model(target.model))


def estimated_input_tokens(body: bytes) -> int:
    """About four bytes of JSON make a token of English; an estimate, and marked as one wherever it is used."""
    return len(body) // BYTES_PER_TOKEN


def _ask(call: Call, caller: Caller, request: Request, snapshot: TenantSnapshot) -> Ask:
    bounds = snapshot.limits
    limits = [Limit("key", caller.key_id, caller.requests_per_minute, caller.tokens_per_minute, caller.concurrency)]
    if bounds.requests_per_minute or bounds.tokens_per_minute or bounds.concurrency:
        limits.append(
            Limit("tenant", caller.tenant_id, bounds.requests_per_minute, bounds.tokens_per_minute, bounds.concurrency)
        )
    token_bounds = [limit.tokens_per_minute for limit in limits if limit.tokens_per_minute]
    tokens = estimated_input_tokens(request.body)
    if request.most_output_tokens is not None:
        tokens += request.most_output_tokens
    elif token_bounds:
        # A call that names no maximum must not be refused for one it never asked for.
        tokens += min(_UNSTATED_OUTPUT_TOKENS, max(0, min(token_bounds) - tokens))
    return Ask(caller.tenant_id, tuple(limits), tokens if token_bounds else 0, call.interaction_id, _LONGEST_CALL_S)
