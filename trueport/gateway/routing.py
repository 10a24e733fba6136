"""Which targets serve a request, and in which order they are tried. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from trueport.gateway.call import Wire
from trueport.gateway.snapshot import Credential, Route, Target, TenantSnapshot
from trueport.kit.errors import Forbidden, TrueportError

HOME_PROVIDERS: Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset({"openai", "openai_compatible", "simulator"}),
    "anthropic": frozenset({"anthropic"}),
    "google": frozenset({"google"}),
    "azure": frozenset({"azure"}),
}
"""The providers a dialect was made for: where its calls go when no route says otherwise."""

Draw = Callable[[], float]
"""A random number in [0, 1)."""


class ModelNotServed(TrueportError):
    """No target of this tenant serves the model or the dialect."""

    code = "model_not_found"
    status = 404


class RegionNotAllowed(Forbidden):
    """Every target for the model lies outside the regions the tenant allows."""

    code = "region_not_allowed"
    should_retry = False

    def __init__(self) -> None:
        super().__init__("No provider in a region your organisation allows serves this model.", param="model")


def resolved(snapshot: TenantSnapshot, model: str | None) -> str | None:
    """The model behind an alias; every other name is itself."""
    return model if model is None else snapshot.aliases.get(model, model)


def route_for(
    snapshot: TenantSnapshot,
    dialect: str,
    model: str | None,
    *,
    wire_of: Mapping[str, Wire],
    wires: Collection[Wire],
    account: str | None = None,
) -> Route:
    """The first route that matches `model`, an alias already resolved, with those of its targets that can serve.

    Those are the targets whose provider speaks one of `wires`: the request's own, which comes first, and the others
    where it can be translated. Without a route for the dialect, and for requests that name no model (a list of
    models, files), the tenant's only credential for the dialect serves, or, where there are several, the one called
    `account`, else the first one that a route names. Raises ModelNotServed with what to do.
    """
    for route in snapshot.routes:
        if route.matches(dialect, model):
            targets = tuple(target for target in route.targets if wire_of.get(target.credential.provider) in wires)
            if targets:
                return route if len(targets) == len(route.targets) else replace(route, targets=targets)
            raise ModelNotServed("The route for this model leads to no provider of this API: add a target that does.")
    candidates = [route for route in snapshot.routes if route.dialect in (None, dialect)]
    if model is not None and candidates:
        raise ModelNotServed("No route serves this model: use another model name or add a route for it.")
    own = _own_credentials(snapshot, dialect, wire_of, next(iter(wires)))
    if not own:
        raise ModelNotServed("No provider credential is configured for this API: add one, or a route.")
    named = [credential for credential in own if account is not None and _is_account(credential, account)]
    if len(named or own) == 1:
        return Route((Target((named or own)[0]),))
    for route in candidates:
        # What a route does to a model is meant for that model; only the account counts here.
        for target in route.targets:
            if target.credential in own:
                return Route((replace(target, model=None),))
    raise ModelNotServed("Several provider credentials could serve this request: add a route that names one.")


def _own_credentials(
    snapshot: TenantSnapshot, dialect: str, wire_of: Mapping[str, Wire], wire: Wire
) -> list[Credential]:
    """The credentials a call of the dialect may use as it is: those of its own providers, else those of its wire."""
    home = HOME_PROVIDERS.get(dialect, frozenset())
    credentials = snapshot.credentials.values()
    at_home = [credential for credential in credentials if credential.provider in home]
    return at_home or [credential for credential in credentials if wire_of.get(credential.provider) == wire]


def _is_account(credential: Credential, account: str) -> bool:
    host = credential.base_url.host or ""
    return account in (credential.name, host.partition(".")[0])


def allowed_region(snapshot: TenantSnapshot, target: Target) -> bool:
    """Whether the tenant lets its data go to where the target is. Without a list, anywhere."""
    return not snapshot.regions or target.credential.region in snapshot.regions


def order_targets(
    targets: Sequence[Target], resting: Collection[str], latency_ms: Mapping[str, float], draw: Draw
) -> list[Target]:
    """The targets in the order to try them: lower `priority` first, and those resting after all others.

    Inside one priority, targets that are chosen by latency come fastest first (one not measured yet counts as the
    fastest, so that it gets measured), the others in a weighted draw without replacement. `resting` holds the ids of
    targets whose circuit is open or whose provider asked for a pause: they go last rather than away, so that a
    tenant with a single provider gets that provider's own error.
    """
    if len(targets) == 1:
        return list(targets)
    ordered = []
    by_priority = groupby(sorted(targets, key=lambda target: target.priority), key=lambda target: target.priority)
    for _, peers in by_priority:
        drawn = _drawn(list(peers), draw)
        if drawn[0].by_latency:
            drawn.sort(key=lambda target: latency_ms.get(target.id, 0.0))
        ordered += drawn
    return sorted(ordered, key=lambda target: target.id in resting)


def _drawn(peers: list[Target], draw: Draw) -> list[Target]:
    drawn = []
    while len(peers) > 1:
        point = draw() * sum(peer.weight for peer in peers)
        for peer in peers:
            point -= peer.weight
            if point < 0:
                break
        peers.remove(peer)
        drawn.append(peer)
    return [*drawn, *peers]
