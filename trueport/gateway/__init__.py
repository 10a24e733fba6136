"""The data plane: it carries one client call to a provider and back. No web framework and no database in here."""
