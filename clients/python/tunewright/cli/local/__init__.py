"""The three services on this machine: `tunewright up` and `tunewright demo`."""
