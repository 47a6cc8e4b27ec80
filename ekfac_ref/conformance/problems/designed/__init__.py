"""Problems with one thing special about them at a time, so that a verdict is one about that."""
