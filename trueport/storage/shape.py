"""What a model must look like to be stored, and how its values get into documents.

odmantic gives the shape only: it quietly stores no field that a model inherits, and its references load other
documents without asking whose they are. Such models are refused when their repository is defined.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final

from odmantic import Model
from odmantic.exceptions import DocumentParsingError
from pymongo import IndexModel

from trueport.kit.errors import TrueportError
from trueport.storage.filters import UnscopedQuery, plain
from trueport.storage.mongo import Document

_OWN_FIELDS: Final[Mapping[str, type]] = {"tenant_id": str, "revision": int, "created_at": datetime}
_KEPT: Final = frozenset({"_id", *_OWN_FIELDS})
# Indexes for reading across tenants (PlatformRepository). They must not be unique: that would tell one tenant what
# another one has. A person's own tenants are found by the person.
_ACROSS_TENANTS: Final = frozenset({("memberships", "user_id")})


class UnreadableDocument(TrueportError):
    """A stored document does not fit its model: written by another version, or by hand."""

    code = "unreadable_document"

    def __init__(self, collection: str) -> None:
        super().__init__("Something stored cannot be read by this version.")
        self.collection = collection


def check_model(model: type[Model]) -> None:
    """Raise TypeError unless all of the model is stored, under an identifier of our own."""
    _check_is_model(model)
    problems = [f"inherits {name}, which is not stored" for name in model.model_fields if name not in _own(model)]
    if _plain_type(model, model.__primary_field__) is not str:
        problems.append("has no text as its primary field")
    if model.__references__:
        problems.append("refers to other models")
    _refuse(model, problems)


def check_tenant_model(model: type[Model]) -> None:
    """Raise TypeError unless the model can be stored per tenant.

    It declares `tenant_id: str`, `revision: int` and `created_at: datetime` in its own body and each index begins
    with tenant_id. An expiry index is let off: MongoDB wants it to have a single field.
    """
    _check_is_model(model)
    problems = [
        f"declares no {name}: {kind.__name__} in its own body"
        for name, kind in _OWN_FIELDS.items()
        if name not in _own(model) or not issubclass(_plain_type(model, name), kind) or _own(model)[name] != name
    ]
    for index in declared_indexes(model):
        first, *more = index.document["key"]
        is_expiry = "expireAfterSeconds" in index.document and not more
        is_across = (+model, first) in _ACROSS_TENANTS and not index.document.get("unique")
        if first != "tenant_id" and not is_expiry and not is_across:
            problems.append(f"has an index that begins with {first} instead of tenant_id")
    _refuse(model, problems)
    check_model(model)


def declared_indexes(model: type[Model]) -> list[IndexModel]:
    return [index if isinstance(index, IndexModel) else index.get_pymongo_index() for index in model.__indexes__()]


def to_document(item: Model) -> Document:
    """The whole item as it is stored. Raises ValueError for a moment without time zone."""
    document: Document = _storable(item.model_dump_doc())
    return document


def changed_members(model: type[Model], changes: Mapping[str, Any]) -> Document:
    """Stored names and values for a `$set` of these fields of the model.

    Raises UnscopedQuery for what an update does not touch, and for values that do not fit: a mistake in our code.
    """
    unknown = [name for name in changes if name not in _own(model) or _own(model)[name] in _KEPT]
    if unknown:
        raise UnscopedQuery(f"{model.__name__}: not set by updates: {', '.join(sorted(unknown))}")
    shell = model.model_construct()
    for name, value in changes.items():
        try:
            model.__pydantic_validator__.validate_assignment(shell, name, value)
        except ValueError as error:
            raise UnscopedQuery(f"{model.__name__} cannot hold this {name}") from error
    members: Document = _storable(shell.model_dump_doc(include=set(changes)))
    return members


def from_document(model: type[Model], document: Document) -> Any:  # an instance of `model`
    """The item a document holds. Raises UnreadableDocument."""
    try:
        return model.model_validate_doc(document)
    except DocumentParsingError as error:
        raise UnreadableDocument(+model) from error


def _storable(part: Any) -> Any:
    match part:
        case Mapping():
            return {name: _storable(value) for name, value in part.items()}
        case list() | tuple():
            return [_storable(value) for value in part]
        case Enum():
            return part.value
        case datetime():
            return plain(part)
    return part


def _check_is_model(model: type[Any]) -> None:
    # odmantic puts a plain pydantic class in the place of a model that another one derives from.
    if not issubclass(model, Model):
        _refuse(model, ["derives from another model, whose fields are not stored"])


def _own(model: type[Model]) -> dict[str, str]:
    """Field names with the names they are stored under."""
    return {name: field.key_name for name, field in model.__odm_fields__.items()}


def _plain_type(model: type[Model], name: str) -> type:
    annotation: Any = model.model_fields[name].annotation
    annotation = getattr(annotation, "__supertype__", annotation)
    return annotation if isinstance(annotation, type) else object


def _refuse(model: type[Model], problems: Iterable[str]) -> None:
    if told := "; ".join(problems):
        raise TypeError(f"{model.__name__} {told}")
