"""Filters of repositories: from query expressions to the one flat document that is sent.

The result is flat, `_id` first and the tenant last. To MongoDB neither matters. The embedded server's planner, however,
reads no index at all for `$and` and `$or`, uses a compound index only for plain values (`{"name": "x"}`, not
`{"name": {"$eq": "x"}}`) and at most one operator, and else takes the first member that an index begins with: with
the tenant in front, looking up one `_id` would read all documents of the tenant.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from odmantic import Model
from odmantic.query import QueryExpression

from trueport.kit.errors import InvalidRequest
from trueport.storage.mongo import Document

Filter = Mapping[str, Any]

_COMPARISONS: Final = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"})


class UnscopedQuery(TypeError):
    """A query that could reach beyond its tenant: a mistake in our code, found before it is sent."""


def flat_filter(
    model: type[Model], filters: Sequence[Filter], tenant_id: str, *, are_handwritten: bool = False
) -> Document:
    """All of `filters`, inside one tenant.

    A filter is a query expression of odmantic (`query.eq(Policy.name, name)`, joined by `&`, `|`), or a mapping of
    stored names to plain values. Handwritten mappings may hold comparisons, `$and` and `$or` as well; they are for
    repositories that spell out a query, and only with typed values.

    Raises UnscopedQuery when a filter names `tenant_id`, an unknown field or an operator beyond comparisons, and
    InvalidRequest when a value has the form of an operator: values come from outside.
    """
    flat = _joined(model, filters if are_handwritten else [_typed(each) for each in filters])
    return {**({"_id": flat.pop("_id")} if "_id" in flat else {}), **flat, "tenant_id": tenant_id}


def _joined(model: type[Model], filters: Iterable[Filter]) -> Document:
    conditions: dict[str, Document] = {}
    others: list[Document] = []
    for name, value in _members(filters):
        if name in ("$or", "$nor"):
            others.append({name: [_joined(model, [branch]) for branch in value]})
            continue
        _check_name(model, name)
        condition = _condition(value)
        known = conditions.setdefault(name, {})
        if known.keys().isdisjoint(condition):
            known |= condition
        else:
            others.append({name: condition})
    flat = {name: _simplest(condition) for name, condition in conditions.items()}
    return {**flat, "$and": others} if others else flat


def _typed(each: Filter) -> Filter:
    if isinstance(each, QueryExpression):
        return each
    if any(name.startswith("$") or isinstance(value, Mapping | re.Pattern) for name, value in each.items()):
        raise InvalidRequest("A value in this request has the form of an operator.")
    return each


def _members(filters: Iterable[Filter]) -> Iterable[tuple[str, Any]]:
    """Names with their conditions, `$and` taken apart."""
    for each in filters:
        for name, value in each.items():
            if name == "$and":
                yield from _members(value)
            else:
                yield name, value


def _check_name(model: type[Model], name: str) -> None:
    root = name.partition(".")[0]
    if root == "tenant_id":
        raise UnscopedQuery("the tenant of a query is its scope's, a filter does not name it")
    if all(root != field.key_name for field in model.__odm_fields__.values()):
        raise UnscopedQuery(f"{model.__name__} stores no {name!r}")


def _condition(value: Any) -> Document:
    if isinstance(value, re.Pattern):
        return {"$regex": value}
    if not isinstance(value, Mapping):
        return {"$eq": plain(value)}
    if unknown := value.keys() - _COMPARISONS:
        raise UnscopedQuery(f"{', '.join(sorted(unknown))} is no comparison")
    return {operator: plain(operand) for operator, operand in value.items()}


def _simplest(condition: Document) -> object:
    match condition:
        # A document or pattern under $eq is compared; in its place it could be read as an operator.
        case {"$eq": Mapping() | re.Pattern()}:
            return condition
        case {"$eq": value, **rest} if not rest:
            return value
    return condition


def plain(value: object) -> object:
    """The value as it is stored, unless the database would read something else into it than a value.

    Raises InvalidRequest for a member name that begins with `$`, and ValueError for a moment without time zone: it
    would be stored as if it were UTC.
    """
    match value:
        case Mapping():
            for name, member in value.items():
                if not isinstance(name, str) or name.startswith("$"):
                    raise InvalidRequest("A value in this request has the form of an operator.")
                plain(member)
        case list() | tuple():
            return [plain(member) for member in value]
        case re.Pattern():
            raise InvalidRequest("A value in this request has the form of an operator.")
        case datetime() if value.tzinfo is None:
            raise ValueError("a moment without time zone")
        case Enum():
            return value.value
    return value
