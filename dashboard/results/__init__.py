"""What the analysis of a file gives, as files in a folder and as JSON of the interface."""
