from tests.support.mongo import database, mongo_client, mongodb_uri, noted
from tests.support.web import house

__all__ = ["database", "house", "mongo_client", "mongodb_uri", "noted"]
