"""Download and check the real photographs: `python -m camid_utils.download --help`."""
