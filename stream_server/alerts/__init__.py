"""Alerts: rules over the timeline, and what happens when one holds."""
