"""Learning from unlabelled performances how people play, and how far a performance departs from that."""
