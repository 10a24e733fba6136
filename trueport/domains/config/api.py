"""The front door of this domain."""

from trueport.domains.config.compile import (
    accounts,
    allowed_regions,
    compile_snapshot,
    content_key_named,
    policies_of_version,
)
from trueport.domains.config.file import (
    InvalidConfiguration,
    TenantFile,
    check_tenant_file,
    has_topics,
    read_policy_list,
    read_secrets,
    read_tenant_file,
    write_tenant_file,
)
from trueport.domains.config.service import ConfigService

__all__ = [
    "ConfigService",
    "InvalidConfiguration",
    "TenantFile",
    "accounts",
    "allowed_regions",
    "check_tenant_file",
    "compile_snapshot",
    "content_key_named",
    "has_topics",
    "policies_of_version",
    "read_policy_list",
    "read_secrets",
    "read_tenant_file",
    "write_tenant_file",
]
