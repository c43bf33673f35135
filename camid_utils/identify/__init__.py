"""Which camera took a photo: for the command line, the notebooks and the web page."""
