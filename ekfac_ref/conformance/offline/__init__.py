"""Problems as files, and answers as files: for whoever cannot be called from Python."""
