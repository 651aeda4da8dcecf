"""Sockets: RAS over UDP, the HTTPS API, the metrics port. The thin shell around ``core/``."""
