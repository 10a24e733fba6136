"""Keys for each person's content, erasing a person by destroying them, and holds that forbid it."""
