"""Bluetooth adverts on MQTT in, readings on MQTT out."""
