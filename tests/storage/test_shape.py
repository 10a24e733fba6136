"""Models that could not be stored safely are refused when their repository is defined."""

from collections.abc import Callable
from datetime import datetime

import pytest
from odmantic import Field, Index, Model, Reference
from pydantic import BaseModel
from pymongo import IndexModel

from tests.support.storage import NOON, Thing
from trueport.kit.ids import TenantId
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import TenantRepository


def define(made: type[Model]) -> type[TenantRepository[Model]]:
    class Repository(TenantRepository[Model]):
        model = made

    return Repository


class Base(Model):
    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime


def inherited() -> type[Model]:
    class Inherits(Base):
        name: str

    return Inherits


class Dated(BaseModel):
    created_at: datetime = NOON


class Noted(BaseModel):
    note: str = ""


def mixed_in() -> type[Model]:
    class MixedIn(Dated, Model):
        id: str = Field(primary_field=True)
        tenant_id: str
        revision: int = 0

    return MixedIn


def extra_mixed_in() -> type[Model]:
    class MixedIn(Noted, Model):
        id: str = Field(primary_field=True)
        tenant_id: str
        revision: int = 0
        created_at: datetime

    return MixedIn


def numeric_tenant() -> type[Model]:
    class Numeric(Model):
        id: str = Field(primary_field=True)
        tenant_id: int
        revision: int = 0
        created_at: datetime

    return Numeric


def renamed_tenant() -> type[Model]:
    class Renamed(Model):
        id: str = Field(primary_field=True)
        tenant_id: str = Field(key_name="t")
        revision: int = 0
        created_at: datetime

    return Renamed


def object_id() -> type[Model]:
    class WithObjectId(Model):
        tenant_id: str
        revision: int = 0
        created_at: datetime

    return WithObjectId


def referring() -> type[Model]:
    class Referring(Model):
        id: str = Field(primary_field=True)
        tenant_id: str
        revision: int = 0
        created_at: datetime
        other: Thing = Reference()

    return Referring


def indexed(*indexes: Index | IndexModel) -> Callable[[], type[Model]]:
    def make() -> type[Model]:
        class Indexed(Model):
            id: str = Field(primary_field=True)
            tenant_id: str
            name: str
            created_at: datetime
            revision: int = 0

            model_config = {"indexes": lambda: list(indexes)}  # noqa: RUF012 - odmantic reads it from the class

        return Indexed

    return make


def unique_field() -> type[Model]:
    class UniqueField(Model):
        id: str = Field(primary_field=True)
        tenant_id: str
        email: str = Field(unique=True)
        created_at: datetime
        revision: int = 0

    return UniqueField


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (inherited, "derives from another model"),
        (mixed_in, "no created_at"),
        (extra_mixed_in, "inherits note"),
        (numeric_tenant, "no tenant_id: str"),
        (renamed_tenant, "no tenant_id"),
        (object_id, "primary field"),
        (referring, "refers to other models"),
        (unique_field, "begins with email"),
        (indexed(IndexModel([("name", 1), ("tenant_id", 1)])), "begins with name"),
        (indexed(IndexModel([("name", 1)])), "begins with name"),
        (indexed(IndexModel([("created_at", 1), ("name", 1)], expireAfterSeconds=1)), "begins with created_at"),
    ],
)
def test_a_model_that_is_not_safe_to_store_per_tenant_is_refused(make: Callable[[], type[Model]], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        define(make())


@pytest.mark.parametrize(
    "make",
    [
        indexed(IndexModel([("tenant_id", 1), ("name", 1)], unique=True)),
        indexed(IndexModel([("created_at", 1)], expireAfterSeconds=3600)),
    ],
)
def test_an_index_leads_with_the_tenant_or_only_expires_documents(make: Callable[[], type[Model]]) -> None:
    assert define(make()).model is not None


def test_the_tenant_may_be_declared_as_its_identifier_type() -> None:
    class Typed(Model):
        id: str = Field(primary_field=True)
        tenant_id: TenantId
        revision: int = 0
        created_at: datetime

    assert define(Typed).model is Typed


def test_the_other_door_refuses_fields_that_would_not_be_stored() -> None:
    with pytest.raises(TypeError, match="inherits note"):

        class Repository(PlatformRepository[Model]):
            model = extra_mixed_in()
