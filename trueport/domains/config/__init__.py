"""How a tenant's calls are served: credentials, routes, limits; compiled to what the gateway reads."""

from trueport.domains.config.models import Configuration, ContentKey, StoredCredential
from trueport.web.domain import Domain

domain = Domain(name="config", documents=(StoredCredential, Configuration, ContentKey))
