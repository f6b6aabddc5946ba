"""Records to and from messages, for servicers and gateways alike."""
