"""Reading packet captures: which octets of a pcap are RAS, Q.931/H.225.0 and H.245."""
