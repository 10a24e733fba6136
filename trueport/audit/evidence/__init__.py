"""Evidence packs: what the trail of a period shows for a framework, each statement with its query, sample and proof."""
