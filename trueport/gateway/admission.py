"""The gates before anything is recorded: may this key use this model, is there a target, is there room and money."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from trueport.gateway.call import Admitted, Call, Caller, Request, Wire
from trueport.gateway.limits.base import Ask, Budget, Limit, Reservation, headers
from trueport.gateway.limits.periods import period_of
from trueport.gateway.ports import Tools
from trueport.gateway.pricing import Price, worst_case_nano_usd
from trueport.gateway.routing import RegionNotAllowed, allowed_region, resolved, route_for
from trueport.gateway.snapshot import Bounds, BudgetRule, ModelPattern, Target, TenantSnapshot
from trueport.gateway.tokens import estimate_input_tokens
from trueport.gateway.usage import asked_tier
from trueport.kit.clock import Clock, to_epoch_us
from trueport.kit.errors import Forbidden

_UNSTATED_OUTPUT_TOKENS: Final = 1_024
_UNSTATED_OUTPUT_OF_BUDGETS: Final = 4_096
_LONGEST_CALL_S: Final = 660.0
_LONGEST_SUBJECT: Final = 128
_GENERATES: Final = frozenset({"chat", "text", "media"})
_OWN_FIRST: Final[Mapping[Wire, tuple[Wire, ...]]] = {
    "openai": ("openai", "anthropic", "google"),
    "anthropic": ("anthropic", "openai", "google"),
    "google": ("google", "openai", "anthropic"),
}


class ModelNotAllowed(Forbidden):
    """The key's list of models does not have this one."""

    code = "model_not_allowed"

    def __init__(self) -> None:
        super().__init__("This API key may not use the requested model.", param="model")


async def admit(
    call: Call, caller: Caller, request: Request, snapshot: TenantSnapshot, tools: Tools
) -> tuple[Admitted, Reservation]:
    """The admitted call and what it holds of limits and budgets until it is settled.

    Raises ModelNotAllowed, ModelNotServed, RegionNotAllowed, and the refusals of limits.base.
    """
    model = resolved(snapshot, request.model)
    route = route_for(
        snapshot,
        call.dialect.name,
        model,
        wire_of=tools.wire_of,
        wires=_wires(call, request),
        account=request.account,
    )
    targets = tuple(target for target in route.targets if _may_use(caller, request, model, target))
    if not targets:
        raise ModelNotAllowed
    targets = tuple(target for target in targets if allowed_region(snapshot, target))
    if not targets:
        raise RegionNotAllowed
    stated = _stated_tag(call)
    subject = _Subject(caller, stated or _tag(request), targets[0].model or model)
    input_tokens = estimate_input_tokens(request.members, request.body, subject.model or "")
    granted = await tools.limits.reserve(_ask(call, request, snapshot, targets, subject, input_tokens, tools))
    admitted = Admitted(
        call,
        caller,
        request,
        snapshot,
        targets,
        headers(granted.standing),
        model,
        input_tokens,
        model_counted=subject.model,
        user=subject.user,
        user_is_for_record=stated is not None,
        cache_s=route.cache_s,
    )
    return admitted, granted.reservation


async def admit_own(
    call: Call, caller: Caller, request: Request, snapshot: TenantSnapshot, tools: Tools, *, keeps_content: bool
) -> tuple[Admitted, Reservation]:
    """The same for a call that no provider answers: it has no targets and costs nothing, so no budget is asked."""
    stated = _stated_tag(call)
    subject = _Subject(caller, stated or _tag(request), request.model)
    input_tokens = estimate_input_tokens(request.members, request.body, request.model or "")
    ask = _ask(call, request, replace(snapshot, budgets=()), (), subject, input_tokens, tools)
    granted = await tools.limits.reserve(ask)
    admitted = Admitted(
        call,
        caller,
        request,
        snapshot,
        (),
        headers(granted.standing),
        request.model,
        input_tokens,
        user=subject.user,
        user_is_for_record=stated is not None,
        keeps_content=keeps_content,
    )
    return admitted, granted.reservation


def _wires(call: Call, request: Request) -> tuple[Wire, ...]:
    """The wires a target may speak: the request's own first, and the others where it can be translated."""
    own = call.dialect.wire
    return (own,) if call.dialect.format_of(request) is None else _OWN_FIRST[own]


def _may_use(caller: Caller, request: Request, model: str | None, target: Target) -> bool:
    """Checked on the model that would really be called, and on the one that was asked for behind its alias."""
    if request.lists_models:
        return True
    if model is None:
        # Uploads and jobs name their models where the gateway does not look: only for keys that may use every one.
        return caller.may_use_model("")
    return caller.may_use_model(model) and (target.model is None or caller.may_use_model(target.model))


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom limits and budgets can bind in one call. `model` is the one the first target would be asked for."""

    caller: Caller
    user: str | None
    model: str | None

    def of(self, per: str) -> str | None:
        match per:
            case "key":
                return self.caller.key_id
            case "user":
                return self.user
            case "model":
                return self.model
            case _:
                return self.caller.tenant_id


def _ask(
    call: Call,
    request: Request,
    snapshot: TenantSnapshot,
    targets: tuple[Target, ...],
    subject: _Subject,
    input_tokens: int,
    tools: Tools,
) -> Ask:
    limits = _limits(subject, snapshot)
    budgets = _budgets(subject, snapshot.budgets, tools.clock) if snapshot.budgets else ()
    token_bounds = [limit.tokens_per_minute for limit in limits if limit.tokens_per_minute]
    tokens = input_tokens
    if request.most_output_tokens is not None:
        tokens += request.most_output_tokens * request.candidates
    elif token_bounds:
        # A call that names no maximum must not be refused for one it never asked for.
        tokens += min(_UNSTATED_OUTPUT_TOKENS, max(0, min(token_bounds) - tokens))
    cost = _worst_cost(request, snapshot, targets, subject.model, input_tokens, tools) if budgets else 0
    return Ask(
        subject.caller.tenant_id,
        limits,
        tokens if token_bounds else 0,
        call.interaction_id,
        _LONGEST_CALL_S,
        budgets=budgets,
        cost_nano_usd=cost,
    )


def _stated_tag(call: Call) -> str | None:
    """The client's own user, from the header made for it."""
    for name, value in call.headers:
        if name == b"x-trueport-user":
            return value.decode("latin-1")[:_LONGEST_SUBJECT] or None
    return None


def _tag(request: Request) -> str | None:
    return request.user[:_LONGEST_SUBJECT] if request.user else None


def _limits(subject: _Subject, snapshot: TenantSnapshot) -> tuple[Limit, ...]:
    caller, bounds = subject.caller, snapshot.limits
    limits = [Limit("key", caller.key_id, caller.requests_per_minute, caller.tokens_per_minute, caller.concurrency)]
    if bounds.tenant.are_on:
        limits.append(_limit("tenant", caller.tenant_id, bounds.tenant))
    if bounds.user.are_on and subject.user is not None:
        limits.append(_limit("user", subject.user, bounds.user))
    if subject.model is not None:
        for glob, bound in bounds.models:
            if ModelPattern.of(glob).matches(subject.model):
                limits.append(_limit("model", glob, bound))
                break
    return tuple(limits)


def _limit(scope: str, subject: str, bounds: Bounds) -> Limit:
    return Limit(scope, subject, bounds.requests_per_minute, bounds.tokens_per_minute, bounds.concurrency)


def _budgets(subject: _Subject, rules: tuple[BudgetRule, ...], clock: Clock) -> tuple[Budget, ...]:
    now = clock.now()
    budgets = []
    for rule in rules:
        whose = subject.of(rule.per)
        if whose is None or not _concerns(rule, subject):
            continue
        period, _, ends = period_of(rule.period, now)
        budgets.append(
            Budget(
                name=rule.name,
                scope=rule.per,
                subject=whose,
                period=period,
                ends_us=to_epoch_us(ends),
                limit_nano_usd=rule.limit_nano_usd,
                blocks=rule.blocks,
                alert_at=rule.alert_at,
            )
        )
    return tuple(budgets)


def _concerns(rule: BudgetRule, subject: _Subject) -> bool:
    if rule.key is not None and rule.key != subject.caller.key_id:
        return False
    if rule.user is not None and rule.user != subject.user:
        return False
    return rule.model is None or (subject.model is not None and ModelPattern.of(rule.model).matches(subject.model))


def _worst_cost(
    request: Request,
    snapshot: TenantSnapshot,
    targets: tuple[Target, ...],
    model: str | None,
    input_tokens: int,
    tools: Tools,
) -> int:
    """Nano-dollars the dearest of the targets could cost; a model without a price counts at the ceiling."""
    book = snapshot.prices or tools.prices
    output_tokens = 0
    if request.kind in _GENERATES:
        output_tokens = (request.most_output_tokens or _UNSTATED_OUTPUT_OF_BUDGETS) * request.candidates
    tier = asked_tier(request.members or {})
    now = tools.clock.now()
    prices: list[Price] = [
        book.price_of(target.credential.provider, target.model or model or "", now) or book.ceiling
        for target in targets
    ]
    return max(worst_case_nano_usd(price, input_tokens, output_tokens, tier) for price in prices)
