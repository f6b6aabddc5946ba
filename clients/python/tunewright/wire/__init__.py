"""What both ends of the wire share: reasons, rich errors, names and times."""
