"""The front door of this domain."""

from trueport.domains.config.compile import accounts, compile_snapshot, content_key_named
from trueport.domains.config.file import (
    InvalidConfiguration,
    TenantFile,
    check_tenant_file,
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
    "check_tenant_file",
    "compile_snapshot",
    "content_key_named",
    "read_secrets",
    "read_tenant_file",
    "write_tenant_file",
]
