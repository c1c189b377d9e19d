"""Whether a trace may be believed: what is measured of it before it enters the lake."""
