"""The Guardian Council gatekeeper: H.225.0 RAS, admission by signature, policy gates and a witness log."""

__version__ = "0.1.0"
