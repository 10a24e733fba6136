"""What expressions and checksums find, in time linear in the text."""
