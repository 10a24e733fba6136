from tests.support.mongo import database, mongo_client, mongodb_uri, noted, raw_database

__all__ = ["database", "mongo_client", "mongodb_uri", "noted", "raw_database"]
