"""The two commands: ``gatekeeperd`` (the daemon) and ``councilctl`` (everything a person types)."""
