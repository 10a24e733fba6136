"""Reading texts for what must not pass. Knows nothing of tenants, HTTP or stores."""
