"""What pages are shown as it happens."""
