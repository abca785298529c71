"""The lab: what rehearses a site on one machine. Nothing of it lands on a site."""
