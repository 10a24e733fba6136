"""What each role may do: the one table. A route names the permission it needs, never a role."""

from typing import Final

from trueport.kit.principal import ROLES, Role

_VIEWER: Final = frozenset({"tenant:read", "analytics:read"})
_MEMBER: Final = _VIEWER | {"keys:read", "keys:create", "logs:read", "violations:read", "policies:read"}
_ADMIN: Final = _MEMBER | {
    "keys:write",
    "members:read",
    "members:write",
    "policies:write",
    "violations:write",
    "routes:read",
    "routes:write",
    "credentials:read",
    "credentials:write",
    "storage:read",
    "storage:write",
    "billing:read",
    "billing:write",
    "configs:read",
    "configs:write",
    "audit:read",
    "audit:export",
    "audit:push",
    "subjects:erase",
    "holds:write",
    "content:reveal",
    "detect:run",
}
_OWNER: Final = _ADMIN | {"tenant:delete", "tenant:transfer"}

PERMISSIONS_OF: Final[dict[Role, frozenset[str]]] = {
    "viewer": _VIEWER,
    "member": _MEMBER,
    "admin": _ADMIN,
    "owner": _OWNER,
}
ALL: Final = _OWNER


def may_grant(own: Role, other: Role) -> bool:
    """Whether a member with the role `own` may give, change or take away the role `other`: none above their own."""
    return ROLES.index(other) <= ROLES.index(own)
