"""``emotion-monitor analyze … --out``: many recordings, one folder of results."""
