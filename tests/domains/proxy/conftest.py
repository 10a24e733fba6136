from tests.support.mongo import database, mongo_client, mongodb_uri, noted

__all__ = ["database", "mongo_client", "mongodb_uri", "noted"]
