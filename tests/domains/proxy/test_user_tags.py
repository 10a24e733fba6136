"""What stands in a record for an application's own user."""

from trueport.domains.proxy.user_tags import UserTags
from trueport.kit.ids import TenantId

TAGS = UserTags(b"k" * 32)
ACME, OTHER = TenantId("ten_a"), TenantId("ten_b")


def test_equal_tags_of_a_tenant_are_the_same_and_nobody_reads_them() -> None:
    digest = TAGS.digest(ACME, "ada@example.com")

    assert digest == TAGS.digest(ACME, "ada@example.com")
    assert digest.startswith("user_")
    assert "ada" not in digest


def test_tags_of_other_users_tenants_and_installations_are_told_apart() -> None:
    tags = {
        TAGS.digest(ACME, "ada"),
        TAGS.digest(ACME, "bob"),
        TAGS.digest(OTHER, "ada"),
        UserTags(b"x" * 32).digest(ACME, "ada"),
    }

    assert len(tags) == 4
