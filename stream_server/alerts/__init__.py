"""Alerts: rules over the timeline, and who is told when one holds."""
