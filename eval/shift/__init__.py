"""The shift lab: what a film network does when the device, the finding or the population changes."""
