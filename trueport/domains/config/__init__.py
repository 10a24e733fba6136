"""How a tenant's calls are served: credentials, routes, limits, policies; compiled to what the gateway reads."""

from litestar.di import Provide

from trueport.domains.config.controllers import PoliciesController, provide_policies
from trueport.domains.config.models import Configuration, ContentKey, StoredCredential
from trueport.web.domain import Domain

domain = Domain(
    name="config",
    controllers=(PoliciesController,),
    dependencies={"policies": Provide(provide_policies, sync_to_thread=False)},
    documents=(StoredCredential, Configuration, ContentKey),
    permissions=frozenset({"policies:read", "policies:write"}),
)
