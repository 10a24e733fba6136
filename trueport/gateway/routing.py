"""Which targets serve a request, in which order. Pure."""

from collections.abc import Collection
from dataclasses import replace

from trueport.gateway.snapshot import Route, Target, TenantSnapshot
from trueport.kit.errors import TrueportError


class ModelNotServed(TrueportError):
    """No target of this tenant serves the model or the dialect."""

    code = "model_not_found"
    status = 404


def targets_for(
    snapshot: TenantSnapshot, dialect: str, model: str | None, providers: Collection[str]
) -> tuple[Target, ...]:
    """The targets of the first route that matches.

    Only targets at `providers`, the names of the providers that speak the dialect, count. Without a route for the
    dialect, and for requests that name no model (a list of models, files), the tenant's only credential among them
    serves, or, where there are several, the first one that a route names. Raises ModelNotServed with what to do.
    """
    for route in snapshot.routes:
        if route.matches(dialect, model):
            targets = _spoken(route, providers)
            if targets:
                return targets
            raise ModelNotServed("The route for this model leads to no provider of this API: add a target that does.")
    candidates = [route for route in snapshot.routes if route.dialect in (None, dialect)]
    if model is None or not candidates:
        own = [credential for credential in snapshot.credentials.values() if credential.provider in providers]
        if len(own) == 1:
            return (Target(own[0]),)
        if not own:
            raise ModelNotServed("No provider credential is configured for this API: add one, or a route.")
        for route in candidates:
            # What a route does to a model is meant for that model; only the account counts here.
            for target in _spoken(route, providers):
                return (replace(target, model=None),)
        raise ModelNotServed("Several provider credentials could serve this request: add a route that names one.")
    raise ModelNotServed("No route serves this model: use another model name or add a route for it.")


def _spoken(route: Route, providers: Collection[str]) -> tuple[Target, ...]:
    return tuple(target for target in route.targets if target.credential.provider in providers)
