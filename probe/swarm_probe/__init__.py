"""The daemon on a GPU machine: it measures paths, uplink, layer compute and host state, and spools the samples."""
