"""Simulated photographs: places, cameras, and the folders of data sets in the layouts of real ones."""
