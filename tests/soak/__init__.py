"""Minutes of real processes under random faults; see __main__.py."""
