"""The RAS state machine (H.225.0 section 7): one module per conversation, ``gatekeeper.py`` dispatches."""
