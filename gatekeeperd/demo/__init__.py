"""``make demo``: a real gatekeeper, real terminals, refusals on purpose, and a witness log that is tampered with."""
