"""The device map: which sensor is which, for Telegraf (names, rooms) and the decoder (models)."""
