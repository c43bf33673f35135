"""Simulated photographs: places, cameras, and the folders of four data sets."""
