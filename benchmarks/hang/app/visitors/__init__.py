"""What the shop lacks for this measurement: a count, and a second slow page."""
