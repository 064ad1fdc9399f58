"""History from files, sent to a gateway as remote write: block by block, so that it can go on."""
