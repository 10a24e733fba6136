"""JSON schemas between the dialects that providers have of them."""

from collections.abc import Mapping
from typing import Final

from trueport.gateway.translate.model import JsonObject

# Keywords whose value is a schema, a list of schemas, or schemas by name.
_ONE: Final = frozenset({"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"})
_LIST: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})

# What Anthropic's structured outputs do not enforce and therefore refuse
# (https://platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations").
_UNENFORCED: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties",
    }
)  # fmt: skip
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_OPENAPI_ONLY: Final = frozenset({"nullable", "propertyOrdering", "example"})
_OPENAPI_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_OPENAPI_NAMES: Final = {
    "any_of": "anyOf", "property_ordering": "propertyOrdering", "min_items": "minItems", "max_items": "maxItems",
    "min_length": "minLength", "max_length": "maxLength", "min_properties": "minProperties",
    "max_properties": "maxProperties", "additional_properties": "additionalProperties", "defs": "$defs", "ref": "$ref",
}  # fmt: skip


def enforceable(schema: JsonObject) -> dict[str, object]:
    """The schema as Anthropic's structured outputs take it.

    Objects are closed, and bounds that are not enforced there are told to the model in the description, as Anthropic's
    own libraries do. What is valid after the result is of the form the original asked for; its bounds are a wish.
    """
    told = {name: value for name, value in schema.items() if _is_unenforced(name, value)}
    kept = {name: _inner(name, value) for name, value in schema.items() if name not in told}
    if "oneOf" in kept and "anyOf" not in kept:
        kept["anyOf"] = kept.pop("oneOf")
    if kept.get("type") == "object" or "properties" in kept:
        kept["additionalProperties"] = False
    if told:
        bounds = "{" + ", ".join(f"{name}: {value}" for name, value in told.items()) + "}"
        said = kept.get("description")
        kept["description"] = f"{said}\n\n{bounds}" if isinstance(said, str) else bounds
    return kept


def _is_unenforced(name: str, value: object) -> bool:
    if name == "format":
        return value not in _FORMATS
    if name == "minItems":
        return value not in (0, 1)
    return name in _UNENFORCED


def _inner(name: str, value: object) -> object:
    if name in _ONE and isinstance(value, dict):
        return enforceable(value)
    if name in _LIST and isinstance(value, list):
        return [enforceable(item) if isinstance(item, dict) else item for item in value]
    if name in _NAMED and isinstance(value, dict):
        return {key: enforceable(item) if isinstance(item, dict) else item for key, item in value.items()}
    return value


def from_openapi(schema: JsonObject) -> dict[str, object]:
    """A JSON schema from Google's `Schema`, a subset of OpenAPI 3.0 (https://ai.google.dev/api/caching#Schema).

    Types are in upper case there, null is a flag beside the type, counts may be strings, and the order of members has
    a keyword of its own, which is left out.
    """
    named = {_OPENAPI_NAMES.get(name, name): value for name, value in schema.items()}
    read = {name: _from_openapi_member(name, value) for name, value in named.items() if name not in _OPENAPI_ONLY}
    kind = read.get("type")
    if read.get("format") == "enum":
        del read["format"]
    if named.get("nullable") is True and isinstance(kind, str):
        read["type"] = [kind, "null"]
        if isinstance(choices := read.get("enum"), list) and None not in choices:
            read["enum"] = [*choices, None]
    return {name: value for name, value in read.items() if value != "type_unspecified"}


def _from_openapi_member(name: str, value: object) -> object:
    match value:
        case str():
            return _from_openapi_text(name, value)
        case list() if name == "anyOf":
            return [from_openapi(item) if isinstance(item, dict) else item for item in value]
        case dict() if name in ("items", "additionalProperties"):
            return from_openapi(value)
        case dict() if name in ("properties", "$defs"):
            return {key: from_openapi(item) if isinstance(item, dict) else item for key, item in value.items()}
    return value


def _from_openapi_text(name: str, value: str) -> str | int:
    if name == "type":
        return value.lower()
    if name == "$ref":
        return value.replace("#/defs/", "#/$defs/", 1)
    if name in _OPENAPI_COUNTS and value.isdecimal() and len(value) < 16:
        return int(value)
    return value


def as_parameters(schema: Mapping[str, object] | None) -> dict[str, object]:
    """The schema of a function's parameters where a format wants one: an object without members for none."""
    if not schema:
        return {"type": "object", "properties": {}}
    return {"type": "object", **schema}
