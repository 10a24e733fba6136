"""The description of the API, as JSON and YAML, with no asset from another host."""

from inspect import getdoc

import msgspec
from litestar import Router
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from trueport.web import problems
from trueport.web.guards import Access, operations

_BEARER = {
    "globalToken": "Global token, from /platform/api/global/auth/login",
    "scopedToken": "Scoped token, from /platform/api/global/auth/select-tenant",
}
_NEEDED = {"global_user": "globalToken", "platform_admin": "globalToken", "tenant": "scopedToken"}


def openapi_config(version: str) -> OpenAPIConfig:
    """OpenAPI at `/schema` (JSON), `/schema/openapi.json` and `/schema/openapi.yaml`."""
    return OpenAPIConfig(
        title="TruePortAI",
        version=version,
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, opt={"access": operations()}),
        render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                name: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description=text)
                for name, text in _BEARER.items()
            }
        ),
    )


class FieldError(msgspec.Struct):
    field: str
    message: str


class Problem(msgspec.Struct, omit_defaults=True):
    """Problem details (RFC 9457). `errors` names each field that is wrong."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | None = None


_ALWAYS = {400: "The request is not understood."}
_GUARDED = {401: "No valid credential.", 403: "Not allowed."}
_OF_ONE = {404: "There is no such object."}


def describe_route(path: str, handler: HTTPRouteHandler, access: Access) -> None:
    """Complete a route's entry: summary, what credential it takes, and its refusals as problem details."""
    needed = _NEEDED.get(access.kind)
    refusals = _ALWAYS | (_GUARDED if needed else {}) | (_OF_ONE if "{" in path else {})
    handler.security = [{needed: []}] if needed else []
    handler.summary = handler.summary or (getdoc(handler.fn) or "").partition("\n")[0].rstrip(".") or None
    handler.responses = {
        **{
            status: ResponseSpec(Problem, description=text, media_type=problems.MEDIA_TYPE, generate_examples=False)
            for status, text in refusals.items()
        },
        **(handler.responses or {}),
    }
