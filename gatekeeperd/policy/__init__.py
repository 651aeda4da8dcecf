"""Who may call: the registry of guardians, the gates and their reasons. Pure functions but for reading the registry file."""
