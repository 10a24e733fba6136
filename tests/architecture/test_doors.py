"""What may be made or called in few places only, read off the syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from odmantic import Model

from trueport.app import installed_domains
from trueport.settings import DOMAINS
from trueport.storage.indexes import leading_fields

PACKAGE = Path(__file__).parents[2] / "trueport"


def calls(name: str) -> Iterator[str]:
    """The modules that call something of this name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                found = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if found == name:
                    yield str(path.relative_to(PACKAGE))


def test_only_authentication_and_jobs_make_leave_to_enter_a_tenant() -> None:
    assert set(calls("TenantScope")) <= {
        "domains/auth/api.py",
        "domains/auth/authentication.py",
        "domains/auth/keys.py",
        "domains/auth/tenants.py",
    }


def test_outgoing_connections_are_opened_in_one_place() -> None:
    assert set(calls("TCPConnector")) == {"gateway/egress.py"}
    assert set(calls("ClientSession")) == set()


@pytest.mark.parametrize("name", ["eval", "exec", "compile_command", "__import__"])
def test_no_text_is_run_as_code(name: str) -> None:
    assert list(calls(name)) == []


def test_nothing_is_unpickled_or_read_as_unsafe_yaml() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "yaml.load(" not in text, path
        assert "yaml.unsafe_load" not in text, path


def test_no_module_hides_behind_a_name_that_says_nothing() -> None:
    vague = {"utils", "helpers", "common", "misc", "manager"}

    assert [path for path in PACKAGE.rglob("*.py") if path.stem in vague] == []


def tenant_models() -> list[type[Model]]:
    models = [model for domain in installed_domains(DOMAINS) for model in domain.documents]
    return [model for model in models if "tenant_id" in model.__annotations__]


def test_there_are_models_of_tenants_to_look_at() -> None:
    assert len(tenant_models()) > 5


@pytest.mark.parametrize("model", tenant_models(), ids=lambda model: model.__name__)
def test_every_index_of_a_tenants_model_begins_with_the_tenant(model: type[Model]) -> None:
    # A person's list of their own tenants is the one question that is asked across tenants, through the other door.
    across = {"user_id"} if model.__name__ == "Membership" else set()

    assert set(leading_fields(model)) <= {"tenant_id"} | across


@pytest.mark.parametrize("model", tenant_models(), ids=lambda model: model.__name__)
def test_a_tenants_model_declares_what_scoping_needs_in_its_own_body(model: type[Model]) -> None:
    assert {"tenant_id", "revision", "created_at"} <= set(model.__annotations__)
