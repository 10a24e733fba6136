"""Archives that tenants choose for themselves: where they lie, how they are opened, and whether they will do."""
