"""What the three services share: server assembly, configuration, storage access, the job spec."""
