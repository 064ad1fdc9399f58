"""History from files and blocks, sent to a gateway part by part, so that it can go on."""
