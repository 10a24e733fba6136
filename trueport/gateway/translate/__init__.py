"""From one provider's wire format to another's, over one neutral form of a conversation."""
